"""`bifocal evaluate zero-shot`, `retrieval` and `templates` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tar_files
from PIL import Image

from bifocal.evaluate.record import read_record


@pytest.fixture
def model(tiny_vit, random_pretrained, tmp_path: Path) -> Path:
    random_pretrained(tiny_vit).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, colour in (("barn_owl", "red"), ("cat", "blue"), ("dog", "green")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for n in range(3):
            Image.new("RGB", (20, 20 + n), colour).save(tmp_path / "set" / name / f"{n}.png")
    return tmp_path / "set"


@pytest.fixture
def benchmark(tmp_path: Path, folders: Path) -> Path:
    folder = tmp_path / "wds"
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("owl\ncat\ndog\n")
    (folder / "zeroshot_classification_templates.txt").write_text("its {c}\n")
    (folder / "test" / "nshards.txt").write_text("1")
    files = {}
    for n, path in enumerate(sorted(folders.rglob("*.png"))):
        files |= {f"s{n}.png": path.read_bytes(), f"s{n}.cls": str(n // 3).encode()}
    tar_files.write(folder / "test" / "0.tar", files)
    return folder


@pytest.mark.behaviour
def test_folders_by_class_are_measured_and_recorded(bifocal, model, folders, tmp_path):
    table = tmp_path / "classes.toml"
    table.write_text('"barn owl" = ["owl", "barn owl"]\ndog = "dog"\ncat = "cat"')
    record, detail, page = (tmp_path / "out" / name for name in ("r.json", "d.json", "p.html"))
    detail.parent.mkdir()
    files = ("--json", record, "--details", detail, "--html", page)
    said = bifocal("evaluate", "zero-shot", model, folders, "--classes", table, *files)
    assert said.status == 0, said.text
    assert "mean per class recall" in said.text
    assert all(len(line) <= 80 for line in said.out.splitlines())
    found = read_record(record)
    assert found.settings["class_names"] == ["barn owl", "cat", "dog"]
    assert found.metrics["images"] == 9
    assert found.protocol == "plain"
    assert "top5" not in found.metrics, "of three classes five guesses are always right"
    told = json.loads(detail.read_text())
    assert told["pictures"] == [3, 3, 3]
    assert told["class_names"] == ["barn owl", "cat", "dog"]
    text = page.read_text()
    assert "Reliability" in text
    assert "barn owl" in text


@pytest.mark.behaviour
def test_clip_benchmarks_folder_brings_its_prompts(bifocal, model, benchmark, tmp_path):
    path = tmp_path / "r.json"
    said = bifocal(
        "evaluate", "zero-shot", model, benchmark, "--protocol", "clip_benchmark", "--json", path
    )
    assert said.status == 0, said.text
    found = read_record(path)
    assert found.settings["templates"] == ["its {c}"]
    assert found.settings["rules"]["logit_scale"] == 100
    assert found.model.transform["resize"] == "pillow"
    assert (found.protocol, found.data.split) == ("clip_benchmark", "test")
    assert {"acc1", "acc5", "mean_per_class_recall"} <= found.metrics.keys()
    assert "not defined" in said.text
    said = bifocal("evaluate", "zero-shot", model, benchmark, "--template", "{}", "--json", path)
    assert said.status == 0, said.text
    assert read_record(path).settings["templates"] == ["{}"]


@pytest.mark.behaviour
def test_shards_without_names_take_those_of_the_file(bifocal, model, benchmark, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("owl\ncat\ndog\n")
    ask = ("evaluate", "zero-shot", model, benchmark / "test" / "0.tar")
    assert "no classes" in bifocal(*ask).text
    said = bifocal(*ask, "--classes", names, "--json", tmp_path / "r.json")
    assert said.status == 0, said.text
    assert read_record(tmp_path / "r.json").settings["class_names"] == ["owl", "cat", "dog"]


@pytest.mark.behaviour
def test_classifiers_are_kept_where_asked_and_not_where_refused(bifocal, model, folders, tmp_path):
    cache = tmp_path / "kept"
    ask = ("evaluate", "zero-shot", model, folders, "--templates", "animals:300", "--cache", cache)
    assert bifocal(*ask, "--no-cache").status == 0
    assert not cache.exists()
    first = bifocal(*ask)
    assert first.status == 0, first.text
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    assert bifocal(*ask).out == first.out
    assert kept.read_bytes() == before


@pytest.mark.behaviour
def test_retrieval_follows_a_protocol(bifocal, model, tmp_path):
    path = tmp_path / "r.json"
    ask = ("evaluate", "retrieval", model, "scenes:val:10", "--json", path)
    assert bifocal(*ask, "--protocol", "clip_benchmark", "--same", "both").status == 0
    found = read_record(path)
    assert found.settings["same"] == "both"
    assert found.metrics["texts"] == 40
    assert {"image_retrieval_recall@5", "text_retrieval_recall@5"} <= found.metrics.keys()
    assert len(found.outcomes["image_retrieval_recall@5"]) == 40
    assert bifocal(*ask, "--protocol", "paper").status == 0
    assert read_record(path).settings["rules"]["caption_prefix"] == "a photo of "


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "papers"), "did you mean 'paper'"),
        (("--dataset", "voc2008"), "no data set of the paper's"),
        (("--dataset", "voc2007"), "one class each: say --multi-label"),
        (("--dataset", "hateful memes"), "needs two classes"),
        (("--templates", "phot"), "did you mean 'photos'"),
        (("--templates", "none.json"), "cannot read the templates"),
        (("--classes", "none.json"), "cannot read the classes"),
        (("--template", "a cat"), "has no {} for the class name"),
        (("--template", "{}", "--templates", "photos"), "use one of them"),
        (("--classes", "TWO"), "2 classes for data of 3"),
        (("--html", "TWO/page.html"), "cannot write the page"),
    ],
)
def test_mistakes_are_one_message(bifocal, model, folders, tmp_path, arguments, message):
    two = tmp_path / "two.txt"
    two.write_text("cat\nowl\n")
    said = bifocal(
        "evaluate",
        "zero-shot",
        model,
        folders,
        *(one.replace("TWO", str(two)) for one in arguments),
    )
    assert said.status == 1
    assert said.err.startswith("error: ")
    assert message in said.text


@pytest.mark.behaviour
def test_templates_are_listed(bifocal):
    said = bifocal("evaluate", "templates")
    assert said.status == 0
    assert "aerial" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    said = bifocal("evaluate", "templates", "photos:80")
    assert len(said.out.splitlines()) == 80
    assert said.out.startswith("a photo of a {}.\n")
    assert bifocal("evaluate", "templates", "photo").status == 1


@pytest.mark.behaviour
def test_embedded_features_stand_in_for_the_tower(bifocal, model, folders, tmp_path, monkeypatch):
    pairs, both = "scenes:val:12", tmp_path / "pairs"
    assert bifocal("embed", model, folders, tmp_path / "set-features").status == 0
    assert bifocal("embed", model, pairs, both, "--what", "both").status == 0
    asked = {
        "zero-shot": (model, folders, "--features", tmp_path / "set-features"),
        "retrieval": (model, pairs, "--features", both),
    }
    plain = {}
    for verb, (one, data, *_) in asked.items():
        assert bifocal("evaluate", verb, one, data, "--json", tmp_path / "p.json").status == 0
        plain[verb] = read_record(tmp_path / "p.json")
    monkeypatch.setattr("bifocal.model.clip.CLIP.encode_image", None)
    for verb, arguments in asked.items():
        said = bifocal("evaluate", verb, *arguments, "--json", tmp_path / "r.json")
        assert said.status == 0, said.text
        found = read_record(tmp_path / "r.json")
        assert found.metrics == pytest.approx(plain[verb].metrics, abs=1e-6)
        assert found.settings["embedded"] == {"test": "float32, computed in float32"}
        assert found.data == plain[verb].data
    for arguments, message in (
        (("zero-shot", *asked["zero-shot"], "--protocol", "clip_benchmark"), "instead of pillow"),
        (("zero-shot", model, "scenes:seen:9", *asked["zero-shot"][2:]), "data identity"),
        (
            (
                "linear-probe",
                model,
                "--train",
                "scenes:seen:30",
                "--test",
                "scenes:seen:9",
                "--features",
                both,
            ),
            "are of none of the parts",
        ),
    ):
        said = bifocal("evaluate", *arguments)
        assert said.status == 1
        assert message in said.text


@pytest.mark.behaviour
def test_probes_read_features_of_each_part(bifocal, model, folders, tmp_path, monkeypatch):
    parts = ("--train", folders, "--test", folders)
    assert bifocal("embed", model, folders, tmp_path / "f", "--kind", "penultimate").status == 0
    assert (
        bifocal("evaluate", "linear-probe", model, *parts, "--json", tmp_path / "p.json").status
        == 0
    )
    monkeypatch.setattr("bifocal.model.vision_transformer.VisionTransformer.forward", None)
    monkeypatch.setattr("bifocal.model.vision_transformer.VisionTransformer.penultimate", None)
    said = bifocal(
        *("evaluate", "linear-probe", model, *parts, "--features", tmp_path / "f"),
        *("--json", tmp_path / "r.json"),
    )
    assert said.status == 0, said.text
    found = read_record(tmp_path / "r.json")
    assert found.metrics == read_record(tmp_path / "p.json").metrics
    assert set(found.settings["embedded"]) == {"train", "test"}
