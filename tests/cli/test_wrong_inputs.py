"""What `bifocal evaluate` says of data, records and models that cannot give a figure."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bifocal.pretrained import Pretrained

LABELLED = {
    "one_class": ((0, 0, 0), ["cat"]),
    "empty_class": ((0, 1, 0, 1), ["cat", "dog", "owl"]),
    "same_names": ((0, 1, 2, 0), ["cat", "cat", "dog"]),
    "outside": ((0, 1, 7, -1), ["cat", "dog"]),
    "all_outside": ((5, 6), ["cat", "dog"]),
    "single": ((1,), ["cat", "dog"]),
    "second_only": ((1, 1, 1), ["no", "yes"]),
    "two": ((0, 1, 0, 1, 1, 0), ["no", "yes"]),
    "four": ((0, 1, 2, 3), ["a", "b", "c", "d"]),
    "several": (("0 1", "[0, 1]"), ["no", "yes"]),
}
CAPTIONED = {
    "shared": [{"txt": f"a thing {n // 2}"} for n in range(6)],
    "one_pair": [{"txt": "a thing"}],
    "half_said": [{"txt": "a thing"}, {"cls": 0}],
}


def shard(folder: Path, rows: list[dict]) -> None:
    folder.mkdir()
    draws = np.random.default_rng(0)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for n, beside in enumerate(rows):
            picture = io.BytesIO()
            pixels = draws.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(picture, "png")
            for suffix, content in {"png": picture.getvalue(), **beside}.items():
                data = content if isinstance(content, bytes) else str(content).encode()
                member = tarfile.TarInfo(f"{n:03d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("wrong")
    for name, (labels, names) in LABELLED.items():
        shard(root / name, [{"cls": label} for label in labels])
        (root / name / "classes.json").write_text(json.dumps(names))
    for name, rows in CAPTIONED.items():
        shard(root / name, rows)
    (root / "half_said" / "classes.json").write_text('["x", "y"]')
    return root


@pytest.fixture
def model(tmp_path, tiny_vit, random_pretrained) -> Path:
    clip: Pretrained = random_pretrained(tiny_vit)
    clip.save(tmp_path / "model")
    with torch.no_grad():
        clip.model.visual.proj.fill_(torch.nan)
    clip.save(tmp_path / "diverged")
    return tmp_path / "model"


@pytest.fixture
def evaluate(bifocal, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda verb, *arguments: bifocal("evaluate", verb, *arguments, "--device", "cpu")


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("one_class", (), "one class, 'cat': zero-shot chooses between two or more"),
        ("all_outside", (), "2x label without a class name"),
        ("several", (), "several labels, where one is expected"),
        ("shared", (), "zero-shot needs NAME.cls"),
        ("half_said", (), "some pictures have captions but no label"),
        ("two", ("--dataset", "VOC2007"), "11-point mAP"),
        ("two", ("--multi-label", "--dataset", "Food-101"), "by the one class of a picture"),
        ("shared", ("--multi-label",), "zero-shot needs NAME.cls"),
        ("four", ("--dataset", "Hateful Memes"), "which needs two classes"),
        ("four", ("--dataset", "Kinetics700"), "five guesses are always right"),
        ("two", ("--per-token",), "leave per_token out"),
    ],
)
def test_zero_shot_refuses_what_has_no_figure(evaluate, data, model, name, more, message):
    said = evaluate("zero-shot", model, data / name, *more)
    assert said.status == 1
    assert message in said.text


@pytest.mark.behaviour
def test_zero_shot_tells_what_it_leaves_out_and_what_cannot_be_told_apart(
    evaluate, data, model, caplog, tmp_path
):
    said = evaluate("zero-shot", model, data / "outside", "--json", tmp_path / "r.json")
    assert said.status == 0
    assert "label without a class name" in caplog.text
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["skipped"] == 2
    caplog.clear()
    assert evaluate("zero-shot", model, data / "same_names").status == 0
    assert "the classes 'cat' and 'cat' have the same prompts" in caplog.text
    # A class without pictures is a name to choose, and no part of the mean over classes.
    said = evaluate("zero-shot", model, data / "empty_class", "--json", tmp_path / "e.json")
    found = json.loads((tmp_path / "e.json").read_text())["metrics"]
    assert found["chance"] == pytest.approx(1 / 3)
    assert "top5" not in found
    said = evaluate("zero-shot", model, data / "second_only", "--dataset", "Hateful Memes")
    assert said.status == 0
    assert "not defined" in said.text, "there is no curve without the other class"
    assert evaluate("zero-shot", model, data / "single").status == 0


@pytest.mark.behaviour
def test_a_model_that_has_diverged_has_no_figures(evaluate, data, model, tmp_path):
    diverged = model.with_name("diverged")
    two = data / "two"
    probe = ("linear-probe", diverged, "--train", two, "--test", two, "--kind", "projected")
    for arguments in (
        ("zero-shot", diverged, data / "two"),
        ("retrieval", diverged, data / "shared"),
        probe,
        ("linear-probe", diverged, "--train", two, "--test", two, "--protocol", "clip_benchmark"),
        ("contamination", diverged, two, two, "--out", tmp_path / "out"),
    ):
        said = evaluate(*arguments)
        assert said.status == 1, arguments
        assert "not finite" in said.text, arguments


@pytest.mark.behaviour
def test_retrieval_wants_a_caption_of_every_picture(evaluate, data, model, tmp_path):
    said = evaluate("retrieval", model, data / "half_said")
    assert said.status == 1
    assert "1 of 2 pictures have no caption, as '001'" in said.text
    assert evaluate("retrieval", model, data / "one_pair").status == 0
    # A caption that belongs to two pictures: each is held to its own, or either is right.
    said = evaluate("retrieval", model, data / "shared")
    ranks = [line for line in said.out.splitlines() if "rank" in line]
    assert len(ranks) == 4
    assert not any("%" in line for line in ranks), "ranks are no shares, nor are their bounds"
    found = {}
    for same in ("none", "caption"):
        path = tmp_path / f"{same}.json"
        assert (
            evaluate("retrieval", model, data / "shared", "--same", same, "--json", path).status
            == 0
        )
        found[same] = json.loads(path.read_text())["metrics"]
        assert json.loads(path.read_text())["intervals"]["text_to_image_median_rank"]["units"] == 6
    assert found["none"]["text_to_image_recall@1"] <= found["caption"]["text_to_image_recall@1"]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("one_class", "one_class", "of one class: a classifier needs two"),
        ("two", "four", "different classes"),
        ("second_only", "two", "of one class"),
        ("shared", "shared", "a probe needs NAME.cls"),
    ],
)
def test_probes_of_either_protocol_refuse_the_same(evaluate, data, model, train, test, message):
    said = evaluate(
        *("linear-probe", model, "--train", data / train, "--test", data / test),
        *("--protocol", "clip_benchmark", "--epochs", 1),
    )
    assert said.status == 1
    assert message in said.text
    if train != "one_class" and train != "second_only":
        assert (
            message
            in evaluate("linear-probe", model, "--train", data / train, "--test", data / test).text
        )


@pytest.mark.behaviour
def test_a_part_too_small_to_choose_by_is_one_message(evaluate, data, model):
    said = evaluate(
        *("linear-probe", model, "--train", data / "two", "--test", data / "two"),
        *("--protocol", "clip_benchmark", "--held-out", 0.01, "--epochs", 1),
    )
    assert said.status == 1
    assert "6 training examples have no part of 0.01" in said.text


@pytest.mark.behaviour
def test_records_of_one_picture_under_two_labels_are_not_compared(
    bifocal, evaluate, data, model, tmp_path
):
    paths = [tmp_path / f"{n}.json" for n in range(2)]
    again = tmp_path / "again"
    for path, labels in zip(paths, ((0, 1, 0, 1), (0, 1, 1, 0)), strict=True):
        shard(folder := tmp_path / path.stem, [{"cls": label} for label in labels])
        (folder / "classes.json").write_text('["no", "yes"]')
        folder.rename(again)
        assert evaluate("zero-shot", model, again, "--json", path).status == 0
        again.rename(folder)
    said = bifocal("evaluate", "compare", *paths)
    assert said.status == 1
    assert "2 of 4 pictures have other labels" in said.text
    said = bifocal("evaluate", "compare", paths[0], paths[0])
    assert said.status == 0
    assert "1.0000" in said.text
