"""`bifocal evaluate` on pictures of several classes: records, pages, kept features and suites."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tar_files
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (128,) * 3}
LABELS = [(0,), (0, 1), (), (1, 2), (2,), (0, 2), (1,), (0, 1, 2), (0, 1), (2,)]


def picture(labels: tuple[int, ...], seed: int) -> bytes:
    """Return stripes of the colours of some classes, on grey."""
    pixels = np.full((16, 16, 3), 128, np.uint8)
    for n, label in enumerate(labels):
        pixels[:, 5 * n : 5 * n + 4] = list(COLOURS.values())[label]
    pixels[0] = np.random.default_rng(seed).integers(0, 256, (16, 3))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path, tiny_vit, random_pretrained) -> Path:
    """A model, shards with numbers, and the same pictures as CLIP_benchmark keeps them."""
    random_pretrained(tiny_vit).save(tmp_path / "model")
    numbers, arrays = {}, {}
    for n, labels in enumerate(LABELS * 2):
        array = io.BytesIO()
        np.save(array, np.isin(np.arange(len(COLOURS)), labels).astype(np.int64))
        image = picture(labels, n)
        numbers |= {f"{n:02}.png": image, f"{n:02}.cls": " ".join(map(str, labels)).encode()}
        arrays |= {f"{n:02}.png": image, f"{n:02}.npy": array.getvalue()}
    for folder, files in (("own", numbers), ("wds/test", arrays)):
        (tmp_path / folder).mkdir(parents=True)
        tar_files.write(tmp_path / folder / "0.tar", files)
    (tmp_path / "own" / "classes.json").write_text(json.dumps(list(COLOURS)))
    (tmp_path / "wds" / "classnames.txt").write_text("\n".join(COLOURS))
    (tmp_path / "wds" / "dataset_type.txt").write_text("multilabel")
    return tmp_path


@pytest.fixture
def evaluate(bifocal, monkeypatch, root):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    return lambda *arguments: bifocal("evaluate", *arguments)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.behaviour
def test_both_layouts_have_the_same_figures(evaluate, root):
    model = root / "model"
    said = evaluate(
        *("zero-shot", model, root / "own", "--multi-label", "--dataset", "voc2007"),
        *("--device", "cpu", "--json", root / "own.json", "--html", root / "own.html"),
        *("--details", root / "own-details.json"),
    )
    assert said.status == 0, said.text
    assert "mean average precision" in said.text
    assert "paper metric" in said.text
    # A folder that says what it is needs no flag.
    said = evaluate(
        *("zero-shot", model, root / "wds", "--dataset", "voc2007"),
        *("--device", "cpu", "--json", root / "wds.json"),
    )
    assert said.status == 0, said.text
    first, second = read(root / "own.json"), read(root / "wds.json")
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["images"] == 20
    assert first["metrics"]["chance"] == pytest.approx((10 + 10 + 10) / 60)
    assert first["settings"]["classes_a_picture"] == pytest.approx(1.5)
    bounds = first["intervals"]["paper_metric"]
    assert bounds["low"] < first["metrics"]["paper_metric"] < bounds["high"]
    details = read(root / "own-details.json")
    assert details["pictures"] == [10, 10, 10, 0]
    assert details["average_precision"][3] is None
    assert details["labels"][:4] == [[0], [0, 1], [], [1, 2]]
    page = (root / "own.html").read_text()
    for text in ("11-point mAP", "Precision by recall", "Average precision per class", "grey"):
        assert text in page


@pytest.mark.behaviour
def test_features_of_the_same_reading_stand_for_the_pictures(bifocal, evaluate, root):
    model, how = root / "model", ("--multi-label", "--device", "cpu")
    assert bifocal("embed", model, root / "own", root / "features", *how).status == 0
    evaluate("zero-shot", model, root / "own", *how, "--json", root / "tower.json")
    stored = (*how, "--features", root / "features", "--json", root / "stored.json")
    assert evaluate("zero-shot", model, root / "own", *stored).status == 0
    tower, folder = (read(root / f"{name}.json")["metrics"] for name in ("tower", "stored"))
    assert folder == pytest.approx(tower)


@pytest.mark.behaviour
def test_two_models_are_compared_by_the_label_ranking(evaluate, root, tiny_vit, random_pretrained):
    random_pretrained(tiny_vit, 1).save(root / "other")
    for name in ("model", "other"):
        data = ("zero-shot", root / name, root / "own", "--multi-label", "--device", "cpu")
        assert evaluate(*data, "--json", root / f"{name}.json").status == 0
    said = evaluate("compare", root / "model.json", root / "other.json")
    assert said.status == 0
    assert "label ranking" in said.text


@pytest.mark.behaviour
def test_a_suite_scores_them_beside_others(evaluate, root):
    (root / "suite.toml").write_text(
        f"""
        [models.tiny]
        source = "{root}/model"
        [data.numbers]
        test = "{root}/own"
        train = "{root}/own"
        multi_label = true
        [data.arrays]
        test = "{root}/wds"
        """
    )
    said = evaluate("suite", root / "suite.toml", "--out", root / "out", "--device", "cpu")
    assert said.status == 0, said.text
    assert said.text.count(" mAP ") == 2
    assert said.text.count("failed") == said.text.count("0 failed") == 1
    assert "Mean average precision" in (root / "out" / "suite.html").read_text()
    rows = read(root / "out" / "suite.json")["rows"]
    assert [(row["dataset"], row["task"]) for row in rows] == [
        ("numbers", "zeroshot_classification"),
        ("arrays", "zeroshot_classification"),
    ]
    assert rows[0]["metrics"] == rows[1]["metrics"]
    assert rows[0]["protocol"] == "clip_benchmark"
    assert not any(row["error"] for row in rows)


@pytest.mark.behaviour
def test_a_folder_of_clip_benchmarks_may_be_told_so(evaluate, root):
    (root / "wds" / "dataset_type.txt").unlink()
    asked = ("zero-shot", root / "model", root / "wds", "--device", "cpu")
    said = evaluate(*asked)
    assert said.status == 1
    assert "no pair in 1 shard" in said.text, "arrays say nothing of pictures of one class"
    said = evaluate(*asked, "--multi-label")
    assert said.status == 0, said.text
    assert "mean average precision" in said.text
    (root / "wds" / "dataset_type.txt").write_text("retrieval")
    assert "has captions and no classes" in evaluate(*asked, "--multi-label").text


@pytest.mark.behaviour
def test_who_expects_one_class_is_told(evaluate, root, caplog):
    shutil.copytree(root / "wds" / "test", root / "wds" / "train")
    probe = ("linear-probe", root / "model", "--train", root / "wds", "--test", root / "wds")
    said = evaluate(*probe, "--device", "cpu")
    assert said.status == 1
    assert "may be of several classes: a probe needs" in said.text
    evaluate("zero-shot", root / "model", root / "own", "--device", "cpu")
    assert "10x several labels, where one is expected" in caplog.text


@pytest.mark.behaviour
@pytest.mark.parametrize("data", ["scenes:unseen:20", "nothing.csv"])
def test_other_sources_are_refused(evaluate, root, data):
    (root / "nothing.csv").write_text("image,caption\na.png,a\n")
    path = data if data.startswith("scenes") else root / data
    said = evaluate("zero-shot", root / "model", path, "--multi-label", "--device", "cpu")
    assert said.status == 1
    assert "are read from tar shards" in said.text
