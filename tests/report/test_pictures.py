"""Matrices, galleries and the picture grid."""

import base64
import io
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bifocal.report import (
    HeatMap,
    Hit,
    Prediction,
    Query,
    class_accuracy,
    confusion_matrix,
    heat_map,
    picture_grid,
    predictions,
    retrievals,
)
from bifocal.report.confusion import _similar_together
from bifocal.report.pictures import picture, thumbnail


def image(colour=(10, 200, 30), height=40, width=80):
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (height, width, 3)).copy()


def cells(figure: str) -> dict:
    found = re.search(r'data-heat="([^"]*)"', figure)
    assert found
    return json.loads(unescape(found.group(1)))


def embedded(figure: str) -> list[Image.Image]:
    found = re.findall(r'(?:href|src)="data:image/\w+;base64,([^"]+)"', figure)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


@pytest.mark.behaviour
@pytest.mark.parametrize("shape", [(32, 32), (3, 7), (1, 1), (40, 2)])
@pytest.mark.parametrize("scale", ["sequential", "diverging", "share"])
def test_heat_map_has_one_pixel_a_cell(shape: tuple[int, int], scale: str):
    values = np.random.default_rng(0).uniform(0, 1, shape)
    figure = heat_map(HeatMap("similarity", values, scale=scale))  # type: ignore[arg-type]
    drawn = embedded(figure)[0]
    assert drawn.size == (shape[1], shape[0])
    assert np.allclose(cells(figure)["values"], values, rtol=1e-3)


@pytest.mark.behaviour
def test_heat_map_colours_follow_values_and_holes_are_empty():
    values = np.array([[-1.0, 0.0], [1.0, np.nan]])
    drawn = np.asarray(
        embedded(heat_map(HeatMap("x", values, scale="diverging")))[0].convert("RGBA")
    )
    assert drawn[0, 0, 2] > drawn[0, 0, 0]
    assert drawn[1, 0, 0] > drawn[1, 0, 2]
    assert drawn[..., 3].tolist() == [[255, 0], [255, 0]]
    assert cells(heat_map(HeatMap("x", values)))["values"] == [[-1, 0], [1, None]]


@pytest.mark.behaviour
def test_heat_map_without_values_says_so():
    assert "No data." in heat_map(HeatMap("x", np.full((2, 2), np.nan)))
    assert "No data." in heat_map(HeatMap("x", np.zeros((0, 0))))
    assert "<svg" in heat_map(HeatMap("constant", np.ones((3, 3))))


@pytest.mark.behaviour
def test_heat_map_describes_its_diagonal():
    figure = heat_map(HeatMap("Similarity", np.eye(4) * 0.5 + 0.25, "image", "text"))
    description = "4 image rows by 4 text columns; the diagonal averages 0.75, the rest 0.25."
    assert description in figure


@pytest.mark.behaviour
def test_thumbnails_stand_beside_the_rows():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    figure = heat_map(HeatMap("x", np.eye(3), thumbnails=[image(colour) for colour in colours]))
    strip = next(e for e in embedded(figure) if e.width * 2.9 < e.height < e.width * 3.1)
    thirds = np.asarray(strip.convert("RGB").resize((1, 3), Image.Resampling.BOX))[:, 0]
    flipped = 'transform="scale(1 -1)' in figure
    assert thirds.argmax(axis=1).tolist() == ([2, 1, 0] if flipped else [0, 1, 2])


@pytest.mark.behaviour
def test_confusions_are_shares_of_the_truth():
    figure = confusion_matrix(np.array([[3, 1], [0, 0]]), ["cat", "dog"])
    assert cells(figure)["values"] == [[0.75, 0.25], [None, None]]
    assert len(re.findall(r"<text[^>]*>(75|25)</text>", figure)) == 2
    assert len(re.findall(r"<text[^>]*>(cat|dog)</text>", figure)) == 4


@pytest.mark.behaviour
def test_many_classes_are_unnamed_and_clustered():
    # Classes i and i + 12 are confused with each other only.
    counts = np.eye(24) * 10
    for i in range(24):
        counts[i, (i + 12) % 24] = 9
    names = [f"class-{i}" for i in range(24)]
    order = _similar_together(counts)
    assert sorted(order.tolist()) == list(range(24))
    ranks = np.argsort(order)
    assert np.abs(ranks[:12] - ranks[12:]).mean() < np.abs(np.arange(12) - np.arange(12, 24)).mean()
    figure = confusion_matrix(counts, names)
    assert not re.search(r"<text[^>]*>class-", figure)
    assert sorted(cells(figure)["rowNames"]) == sorted(names)
    assert np.allclose(np.diag(cells(figure)["values"]), 10 / 19, rtol=1e-3)


@pytest.mark.behaviour
def test_class_accuracy_is_worst_first():
    counts = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    rows = class_accuracy(counts, ["cat", "dog", "unseen"]).rows
    assert [row["class"] for row in rows] == ["cat", "dog", "unseen"]
    assert [row["accuracy"] for row in rows] == [0.8, 1.0, None]
    assert [row["most often taken for"] for row in rows] == ["dog", None, None]


@pytest.mark.behaviour
def test_retrievals_mark_what_is_right():
    hits = [Hit(0.412, False, image()), Hit(0.4, True, image())]
    by_text = retrievals([Query(hits, text="a dog", rank=2)])
    assert by_text.count("✓") == 1
    assert by_text.index("0.400") < by_text.index("✓")
    assert by_text.count("<img") == 2
    assert "place" not in by_text
    missed = retrievals([Query([Hit(0.4, False, text="a cat")], image=image(), rank=17)])
    assert "the right one is at place 17" in missed
    assert "✓" not in missed
    assert missed.count("<img") == 1


@pytest.mark.behaviour
def test_predictions_mark_the_truth_or_name_it():
    labels = [("cat", 0.75), ("dog", 0.25)]
    right = predictions([Prediction(image(), labels, "dog")])
    assert right.count("✓") == 1
    assert "truth:" not in right
    assert "--share:75.0%" in right
    assert "truth: <b>bird</b>" in predictions([Prediction(image(), labels, "bird")])
    assert "✓" not in predictions([Prediction(image(), labels)])
    states = [Prediction(image(), labels, truth).correct for truth in ("cat", "dog", None)]
    assert states == [True, False, None]


@pytest.mark.behaviour
def test_pictures_keep_shape_and_colour():
    shown = embedded(picture(image(height=300, width=600), "green", side=100))[0]
    assert shown.size == (100, 50)
    assert np.abs(np.asarray(shown, dtype=int) - [10, 200, 30]).max() <= 4
    small = embedded(picture(image(height=4, width=6), "small"))[0]
    assert small.size == (6, 4)
    with pytest.raises((AssertionError, TypeError), match=r"(?i)uint8"):
        picture(image().astype(np.float32), "wrong")


@pytest.mark.behaviour
def test_thumbnail_is_the_central_square():
    wide = image((0, 0, 0), 10, 30)
    wide[:, 10:20] = 255
    assert thumbnail(wide, 8).shape == (8, 8, 3)
    assert thumbnail(wide, 8).min() == 255


@pytest.mark.behaviour
def test_picture_grid_is_as_wide_as_asked_and_small(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (10, 200, 200, 3), dtype=np.uint8)
    labels = [("cat $5 $6", 0.7), ("dog <b>", 0.2), ("a very long label " * 5, 0.1), ("x", 0.0)]
    truths = ["cat $5 $6", "dog <b>", "absent", None, "x"] * 2
    items = [Prediction(n, labels, t) for n, t in zip(noise, truths, strict=True)]
    path = picture_grid(items, tmp_path / "folder" / "grid.png")
    assert path.stat().st_size < 400_000
    with Image.open(path) as saved:
        assert saved.format == "PNG"
        assert saved.width == 1200
        corner = saved.convert("RGB").getpixel((2, 2))
    assert corner == (255, 255, 255)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


@pytest.mark.behaviour
def test_picture_grid_shows_its_pictures_and_tells_right_from_wrong(tmp_path: Path):
    def colours(truth: str) -> set[tuple[int, ...]]:
        item = Prediction(image((250, 20, 220)), [("cat", 0.9), ("dog", 0.1)], truth)
        path = picture_grid([item], tmp_path / "one.png", columns=1, width=400)
        with Image.open(path) as saved:
            pixels = np.asarray(saved.convert("RGB")).reshape(-1, 3)
        return set(map(tuple, pixels.tolist()))

    green, orange = (0x00, 0x7A, 0x5A), (0xC0, 0x4A, 0x06)
    right, wrong = colours("cat"), colours("dog")
    assert (250, 20, 220) in right
    assert green in right
    assert orange not in right
    assert {green, orange} <= wrong
