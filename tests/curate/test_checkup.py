"""Faults that were planted are found, counted once, and nothing else is called a fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from picture_files import encode
from PIL import Image
from tar_files import write

from bifocal.curate.check_page import check_page
from bifocal.curate.checkup import Checkup, check
from bifocal.curate.crew import Opening
from bifocal.curate.duplicates import find_duplicates
from bifocal.curate.histogram import histogram
from bifocal.curate.looks import Gathering, Look
from bifocal.curate.survey import survey
from bifocal.data.sources import Reading
from bifocal.errors import DataError
from bifocal.inputs.tokenizer import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def texture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A picture unlike any other: coarse blots of a seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    return encode(image, "JPEG", quality=quality)


def planted(folder: Path) -> Opening:
    """Shards of which every fault is known, and other data that share two pictures with them."""
    files: dict[str, bytes] = {}

    def add(key: str, picture: bytes, *captions: str, suffix: str = "jpg") -> None:
        files[f"{key}.{suffix}"] = picture
        files[f"{key}.json"] = json.dumps({"captions": captions}).encode()

    for n in range(20):
        add(f"ok{n}", jpeg(texture(n)), f"a {LETTERS[n]} of its own", f"nothing like {LETTERS[n]}")
    add("copy", jpeg(texture(0)), "an equal file")
    add("pixels", encode(texture(30), "PNG"), "once", suffix="png")
    add("pixels2", encode(texture(30), "WEBP", lossless=True), "twice", suffix="webp")
    add("near", jpeg(texture(1).resize((40, 30)), 70), "smaller")
    add("mirrored", jpeg(texture(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT)), "another picture")
    for n in range(12):
        # The same faint slope on another ground: alike as thumbnails, and nothing to look at.
        slope = np.tile(np.arange(8 * n, 8 * n + 6).repeat(8), (30 + n, 1)).astype(np.uint8)
        add(f"flat{n}", encode(Image.fromarray(slope), "PNG"), f"flat {n}", suffix="png")
    add("url", jpeg(texture(40)), "see https://example.org/1.jpg now")
    add("name", jpeg(texture(41)), "IMG_0042", "beach.JPG")
    add("markup", jpeg(texture(42)), "<b>sale</b>")
    add("digits", jpeg(texture(43)), "12 / 34")
    add("cut", jpeg(texture(44)), "word " * 30)
    add("cyrillic", jpeg(texture(45)), "собака бежит")
    add("damaged", jpeg(texture(46))[:600], "cut off")
    files["alone.jpg"] = jpeg(texture(47))
    write(folder / "data.tar", files)
    files.clear()
    add("x", jpeg(texture(3)), "shared")
    add("y", jpeg(texture(4).resize((128, 96)), 80), "shared, larger")
    add("y2", jpeg(texture(4).resize((128, 96)), 80), "shared again")
    add("z", jpeg(texture(99)), "not shared")
    write(folder / "other.tar", files)
    return Opening((str(folder / "data.tar"), str(folder / "other.tar")), Reading())


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer([(a, b) for a in "abc" for b in "xyz"], context_length=64)


@pytest.fixture
def found(tmp_path: Path, tokenizer: Tokenizer) -> Checkup:
    return check(planted(tmp_path), tokenizer=tokenizer)


@pytest.mark.behaviour
def test_planted_faults_are_counted(found):
    data, other = found.opening.specs
    assert found.faults == {
        "damaged or left out": 2,
        "same file as another": 1,
        "same pixels as another": 1,
        "nearly as another": 1,
        f"also in {other}": 2,
        "caption: file name": 2,
        "caption: web address": 1,
        "caption: markup": 1,
        "caption: no letters": 1,
        "caption: longer than the context": 1,
    }
    assert not found.is_clean
    assert dict(found.damage) == {
        ("data.tar", "picture without caption"): 1,
        ("data.tar", "truncated or damaged picture"): 1,
    }
    assert found.duplicates.flat == 12
    assert found.wording.scripts["Cyrillic"] == 1
    figures = json.loads(json.dumps(found.figures()))
    assert figures["source"] == data
    assert figures["clean"] is False
    assert figures["duplicates"]["across"] == {other: {"same file": 1, "same pixels": 0, "near": 1}}
    listed = {
        (row["kind"], *(side["key"] for side in row["pictures"]))
        for row in figures["duplicates"]["listed"]
    }
    assert listed == {
        ("same file", "ok0", "copy"),
        ("same pixels", "pixels", "pixels2"),
        ("near", "ok1", "near"),
        ("same file", "ok3", "x"),
        ("near", "ok4", "y"),
        ("same file", "y", "y2"),
    }


@pytest.mark.behaviour
def test_clean_data_are_clean():
    found = check(Opening(("scenes:train:40",), Reading(image_size=32)))
    assert found.is_clean, found.faults


@pytest.mark.behaviour
def test_a_limit_spreads_over_the_data():
    found = check(Opening(("scenes:train:40", "scenes:val:9"), Reading(image_size=16)), limit=5)
    positions = found.duplicates.pictures.positions.tolist()
    assert positions == [0, 10, 20, 29, 39, 40, 42, 44, 46, 48]
    assert found.looked == (5, 5)


@pytest.mark.behaviour
def test_drawings_whose_hashes_meet_are_told_apart():
    """Scenes have few frequencies: of 300 several pairs are near by hash and none by sight."""
    found = check(Opening(("scenes:train:300",), Reading(image_size=32)))
    assert found.duplicates.within(0) == {"same file": 0, "same pixels": 0, "near": 0}


@pytest.mark.property
def test_a_thousand_copies_are_one_group():
    gathering = Gathering()
    thumbnail = bytes(range(256))
    for n in range(1000):
        # Equal looks, different pixels: a photograph encoded in a thousand ways.
        look = Look(n, str(n), (), (9, 9), 1, (n + 1, n + 1, 77), thumbnail)
        gathering.add(look, n % 2)
    found = find_duplicates(gathering.pictures(), 8)
    assert found.within(0) == {"same file": 0, "same pixels": 0, "near": 499}
    assert found.across(0, 1) == {"same file": 0, "same pixels": 0, "near": 500}
    assert len(list(found.twins())) == 999


@pytest.mark.behaviour
def test_the_page_shows_what_was_found(found, tmp_path):
    html = check_page(found, "bifocal").write(tmp_path / "page.html").read_text("utf-8")
    for text in (
        "Near duplicates in this source and another",
        "Same pixels in this source",
        "truncated or damaged picture",
        "IMG_0042",
        "Tokens of a caption",
        "Width over height",
        "Cyrillic",
        "&lt;b&gt;sale&lt;/b&gt;",
    ):
        assert text in html
    assert "<b>sale</b>" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert html.count("data:image/jpeg;base64,") > 20


@pytest.mark.behaviour
@pytest.mark.parametrize("values", [[], [3], [3, 3], [1, 2, 1000], [0.5, 0.25], [-1.5, 7]])
def test_histograms_of_any_values(values):
    drawn = histogram("Title", values, "unit")
    assert "Title" in drawn
    assert ("<svg" in drawn) == (len(set(values)) > 1)


@pytest.mark.behaviour
def test_data_of_which_nothing_can_be_read_are_an_error(tmp_path):
    path = write(tmp_path / "0.tar", {"a.jpg": b"\xff\xd8", "a.txt": b"text"})
    opening = Opening((str(path),), Reading())
    with pytest.raises(DataError, match=r"nothing in .*0\.tar can be read: 1x"):
        check(opening)
    with pytest.raises(DataError, match="none of 1 samples can be read"):
        survey(opening.open(), 10)


@pytest.mark.behaviour
def test_a_survey_sums_up(tmp_path, tokenizer):
    opening = planted(tmp_path)
    figures = survey(opening.open(), 1000, tokenizer).figures()
    assert figures["samples"] == figures["looked"] == 44
    assert figures["damaged"] == 1
    assert figures["left_out"] == 1
    assert figures["shorter_side"]["median"] == 48
    assert figures["captions_a_picture"]["most"] == 2
    assert figures["longer_than_the_context"] == 1
    assert figures["decode_milliseconds"] > 0
    labelled = survey(Opening(("scenes:seen:9",), Reading()).open(), 5).figures()
    assert labelled["looked"] == 5
    assert labelled["words_a_caption"] is None
    assert labelled["picture_bytes"] is None


@pytest.mark.golden
def test_cifar_10_repeats_itself(photographs: Path):
    """Its splits share near duplicates (Barz and Denzler 2020, arXiv 1902.00423).

    Looked at by eye: the same aeroplane and the same horse, each a little brighter in one split.
    """
    specs = ("cifar10/test-000001.tar", "cifar10/train-000000.tar")
    found = check(Opening(specs, Reading(root=photographs)))
    across = [twins for twins in found.duplicates.twins() if twins.across]
    assert [(t.kind, t.first, t.second - 1000) for t in across] == [
        ("near", 117, 174),
        ("near", 200, 593),
    ]
