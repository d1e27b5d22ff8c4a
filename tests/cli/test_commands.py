"""The smaller verbs: classify, evaluate, tokenizer, models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bifocal.inputs.tokenizer import Tokenizer
from bifocal.model import zoo


@pytest.fixture
def model(tiny_vit, random_pretrained, tmp_path: Path) -> Path:
    random_pretrained(tiny_vit).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red [1].png"
    Image.new("RGB", (20, 20), "red").save(path)
    return path


@pytest.mark.behaviour
def test_pictures_are_named_with_probabilities(bifocal, model, picture):
    said = bifocal("classify", model, picture, "--labels", "cat, dog,[b]owl[/b]", "--top", 2)
    assert said.status == 0, said.text
    assert picture.name in said.text
    lines = [line for line in said.out.splitlines() if "%" in line]
    assert len(lines) == 2
    assert said.text.count("%") == 2
    labels = model.parent / "labels.txt"
    labels.write_text("cat\n\ndog\n[b]owl[/b]\n")
    said = bifocal("classify", model, picture, "--labels", f"@{labels}", "--template", "a {}")
    assert "[b]owl[/b]" in said.text
    assert said.text.count("%") == 3


@pytest.mark.behaviour
def test_an_unreadable_picture_is_reported_and_the_others_named(bifocal, model, picture, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    pictures = [tmp_path / "none.jpg", tmp_path / "text.jpg", picture]
    said = bifocal("classify", model, *pictures, "--labels", "cat,dog")
    assert said.status == 1
    assert "none.jpg: No such file or directory" in said.text
    assert "text.jpg: not a picture of a known format" in said.text
    assert "2 of 3 pictures could not be read" in said.text
    assert said.text.count("%") == 2


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "cat"), "gives 1 name(s): a choice needs two"),
        (("--labels", "@none.txt"), "cannot read the labels none.txt"),
        (("--labels", "cat,dog", "--template", "a photo"), "has no {} for the class name"),
    ],
)
def test_labels_and_templates_are_checked(bifocal, model, picture, arguments, message):
    said = bifocal("classify", model, picture, *arguments)
    assert said.status == 1
    assert message in said.text


@pytest.mark.behaviour
def test_labels_that_are_no_text_are_refused(bifocal, model, picture, tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    said = bifocal("classify", model, picture, "--labels", f"@{tmp_path / 'labels.txt'}")
    assert said.status == 1
    assert "labels.txt" in said.text


@pytest.mark.behaviour
def test_a_model_that_is_not_there_is_named(bifocal, picture, tmp_path):
    said = bifocal("classify", tmp_path / "none", picture, "--labels", "cat,dog")
    assert said.status == 1
    assert "none" in said.text
    assert said.err.startswith("error: ")


@pytest.mark.behaviour
def test_evaluations_print_and_write_figures(bifocal, model, tmp_path):
    path = tmp_path / "figures.json"
    arguments = ("--template", "a {}", "--limit", 20, "--json", path)
    said = bifocal("evaluate", "zero-shot", model, "scenes:unseen:40", *arguments)
    assert said.status == 0, said.text
    assert "top1" in said.text
    figures = json.loads(path.read_text())["metrics"]
    assert figures["images"] == 20
    assert figures["chance"] == 0.01
    said = bifocal("evaluate", "retrieval", model, "scenes:val:10", "--json", path)
    assert said.status == 0, said.text
    assert json.loads(path.read_text())["metrics"]["texts"] == 40
    said = bifocal("evaluate", "zero-shot", model, "scenes:val:10")
    assert said.status == 1
    assert "no classes" in said.text


@pytest.mark.behaviour
def test_figures_that_cannot_be_written_are_an_error(bifocal, model, tmp_path):
    (tmp_path / "none").write_text("")
    path = tmp_path / "none" / "figures.json"
    said = bifocal("evaluate", "retrieval", model, "scenes:val:4", "--json", path)
    assert said.status == 1
    assert "figures.json" in said.text


@pytest.mark.behaviour
def test_a_vocabulary_is_learned_and_shown(bifocal, tmp_path):
    captions = tmp_path / "captions.txt"
    captions.write_text("a red circle\na blue circle\n" * 5, "utf-8")
    path = tmp_path / "new" / "tokenizer.json"
    said = bifocal("tokenizer", "train", captions, path, "--vocab-size", 540, "--context-length", 5)
    assert said.status == 0, said.text
    tokenizer = Tokenizer.load(path)
    assert f"{tokenizer.vocab_size} ids" in said.text
    said = bifocal("tokenizer", "show", path, "a circle circle circle")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].split() == [str(tokenizer.start), "start", "of", "text"]
    assert lines[2].split() == [str(tokenizer.ids["circle</w>"]), "'circle'"]
    assert lines[-2].split() == [str(tokenizer.end), "end", "of", "text"]
    assert lines[-1] == "cut to the context of 5"
    said = bifocal("tokenizer", "train", "scenes:train:20", path, "--vocab-size", 600)
    assert said.status == 0
    for data, message in (("none.txt", "cannot read"), ("none.csv", "cannot read the table")):
        said = bifocal("tokenizer", "train", data, path)
        assert said.status == 1
        assert message in said.text
    assert bifocal("tokenizer", "show", tmp_path / "none.json", "a").status == 1


@pytest.mark.behaviour
def test_the_table_of_models_fits_eighty_columns(bifocal, monkeypatch):
    largest = zoo.Size(420_380_352, 623_258_305, 543.8)
    monkeypatch.setattr(zoo, "measure", lambda config: largest)
    said = bifocal("models")
    assert said.status == 0
    assert max(map(len, said.out.splitlines())) <= 80
    for name in zoo.names():
        assert f"{name} " in said.out
    assert "623,258,305" in said.out
    assert "543.80" in said.out


@pytest.mark.behaviour
def test_help_and_unknown_verbs(bifocal):
    said = bifocal("--help")
    assert said.status == 0
    for verb in ("demo", "train", "evaluate", "classify", "tokenizer", "models"):
        assert verb in said.text
    said = bifocal("trian")
    assert said.status == 2
    assert "trian" in said.text


@pytest.mark.behaviour
def test_an_interrupt_is_one_word_even_if_a_library_wraps_it(bifocal, monkeypatch):
    class Wrapped(Exception):
        pass

    def interrupted(*arguments: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise Wrapped("a callback failed") from error

    monkeypatch.setattr(zoo, "names", interrupted)
    said = bifocal("models")
    assert (said.status, said.text) == (130, "stopped")

    def broken() -> None:
        raise Wrapped("a fault of our own")

    monkeypatch.setattr(zoo, "names", broken)
    with pytest.raises(Wrapped):
        bifocal("models")
