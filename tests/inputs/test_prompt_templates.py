"""Prompts of classes: templates, several names, files, and sets composed from parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bifocal.errors import ConfigError
from bifocal.inputs.prompt_files import read_classes, read_templates
from bifocal.inputs.prompts import ClassNames, class_prompts, fill, prompts
from bifocal.inputs.templates import KINDS, USUAL, compose, template_set

CATS = ClassNames(("cat", "owl"), (("cat", "kitten"), ("owl",)))


@pytest.mark.golden
def test_every_name_of_a_class_is_said_by_every_template():
    assert class_prompts(CATS, ["a {}.", "my {c}"]) == [
        ["a cat.", "a kitten.", "my cat", "my kitten"],
        ["an owl.", "my owl"],
    ]
    assert class_prompts(CATS, ["a {}."], articles=False)[1] == ["a owl."]
    assert class_prompts(ClassNames.of(["x"]), ["a {}"]) == prompts(["x"], ["a {}"])


@pytest.mark.golden
def test_prompts_by_class_need_no_place_for_a_name():
    table = {"cat": ["It purrs.", "a {}, which purrs", "It purrs."], "owl": ["It hoots."]}
    # What a list says twice counts twice; what names no one is said once for all names.
    assert class_prompts(CATS, table) == [
        ["It purrs.", "a cat, which purrs", "a kitten, which purrs", "It purrs."],
        ["It hoots."],
    ]
    with pytest.raises(ConfigError, match=r"no prompts for the class 'owl' — did you mean 'owls'"):
        class_prompts(CATS, {"cat": ["x"], "owls": ["y"]})


@pytest.mark.behaviour
def test_classes_are_brought_to_the_order_of_the_labels():
    found = CATS.of_labels(["owl", "cat"])
    assert found.shown == ("owl", "cat")
    assert found.called == (("owl",), ("cat", "kitten"))
    assert ClassNames.of(["barn owl", "cat"]).of_labels(["cat", "barn_owl"]).called[1] == (
        "barn owl",
    )
    # Other words for as many labels are taken in their order.
    assert CATS.of_labels(["n01", "n02"]) == CATS
    twins = ClassNames.of(["crane", "crane"])
    assert twins.of_labels(["crane", "crane"]) == twins
    with pytest.raises(ConfigError, match=r"2 classes for data of 3; 'cat' is none .*'cats'"):
        CATS.of_labels(["cats", "owl", "dog"])


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '["cat", "owl"]'),
        ("c.json", '["cat", ["owl"]]'),
        ("c.json", '{"cat": "cat", "owl": ["owl"]}'),
        ("c.toml", 'classes = ["cat", "owl"]'),
        ("c.toml", '[classes]\ncat = ["cat"]\nowl = "owl"'),
        ("c.toml", 'cat = ["cat"]\nowl = "owl"'),
        ("c.txt", "cat\nowl\n\n"),
        ("c.names", "\ufeffcat\r\nowl"),
    ],
)
def test_class_names_are_read_from_files(tmp_path: Path, name, text):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert read_classes(path) == ClassNames.of(["cat", "owl"])


@pytest.mark.behaviour
def test_several_names_show_the_first_or_the_key(tmp_path: Path):
    path = tmp_path / "c.json"
    path.write_text('[["cat", "kitten"], "owl"]')
    assert read_classes(path) == CATS
    path.write_text('{"cat": ["cat", "kitten"], "owl": "owl"}')
    assert read_classes(path) == CATS


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "7", "must be a JSON list of class names.*it holds a int"),
        ("c.json", "[]", "there is no class"),
        ("c.json", '["cat", 7]', "7 is neither a text nor"),
        ("c.json", '["cat", " "]', "' ' is no text"),
        ("c.json", '{"cat": []}', "neither a text nor"),
        ("c.json", '{"cat": "a", "cat": "b"}', "'cat' is there twice"),
        ("c.json", "[", "cannot read the classes"),
        ("c.toml", "=", "cannot read the classes"),
        ("c.txt", "cat\n\nowl", "line 2 is empty"),
        ("c.txt", "", "there is no class"),
        ("none.json", None, "cannot read the classes .*No such file"),
    ],
)
def test_files_that_hold_no_classes_are_refused(tmp_path: Path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_classes(path)


@pytest.mark.behaviour
def test_templates_are_read_from_files(tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_text('["a {}", "{c}"]')
    assert read_templates(path) == ("a {}", "{c}")
    path.write_text('{"cat": ["It purrs."], "owl": "It hoots."}')
    assert read_templates(path) == {"cat": ("It purrs.",), "owl": ("It hoots.",)}
    (tmp_path / "t.toml").write_text('templates = ["a {}", "{c}"]')
    assert read_templates(tmp_path / "t.toml") == ("a {}", "{c}")
    (tmp_path / "t.txt").write_text("a {}\n\n{c}\n")
    assert read_templates(tmp_path / "t.txt") == ("a {}", "{c}")
    for text, message in (('["a cat"]', "no {} for the class name"), ("[]", "nor a list")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_templates(path)


@pytest.mark.property
@pytest.mark.parametrize("kind", KINDS)
def test_sets_are_composed_of_different_sentences(kind):
    parts = KINDS[kind]
    every = compose(parts, len(parts))
    assert len(set(every)) == len(parts) >= 200
    assert template_set(f"{kind}:80") == every[:80]
    assert template_set(kind) == every[:USUAL]
    for template in every:
        assert fill(template, "owl") == template.replace(" a {}", " an {}").replace("{}", "owl")
        assert " a a" not in template
        assert " a e" not in template
    # The first few are spread over all parts.
    used = " ".join(every[: 4 * USUAL])
    assert all(part in used for part in (*parts.nouns, *parts.closings, *parts.adjectives))


@pytest.mark.golden
def test_a_set_begins_with_the_plainest_sentence_and_never_changes():
    assert template_set("photos:3") == (
        "a photo of a {}.",
        "one bright close-up with a {} in it.",
        "a clean snapshot that shows a {}.",
    )


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("photo", "did you mean 'photos'"),
        ("photos:x", "write a number of templates"),
        ("photos:0", "write a number of templates"),
        ("photos:999999", "ask for fewer"),
    ],
)
def test_sets_that_are_not_there_are_named(spec, message):
    with pytest.raises(ConfigError, match=message):
        template_set(spec)


@pytest.mark.behaviour
def test_names_must_be_said(tmp_path: Path):
    with pytest.raises(ConfigError, match="empty"):
        ClassNames(("cat",), ((),))
    with pytest.raises(ConfigError, match="1 classes with 2 lists"):
        ClassNames(("cat",), (("a",), ("b",)))
    with pytest.raises(ConfigError, match="at least one template"):
        class_prompts(CATS, [])
