"""What every start of the program costs, and what a disk or a query that is of no use says."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.main import get_command

from bifocal.cli import demo, main
from bifocal.report.page import Page

HEAVY = ("torch", "matplotlib", "sklearn", "scipy", "optuna", "datasets", "pyarrow", "torchvision")
"""Libraries that a start does without: they are imported by what needs them."""


@pytest.mark.behaviour
def test_a_start_imports_nothing_that_only_some_verbs_need():
    code = f"""
import sys
import bifocal.cli.main
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.behaviour
@pytest.mark.parametrize("verb", main.VERBS)
def test_help_tells_of_a_verb_what_the_verb_tells_of_itself(verb):
    commands = [get_command(main.build_app(asked)).commands[verb] for asked in (None, verb)]
    listed, whole = (command.get_short_help_str(limit=200) for command in commands)
    assert listed == whole == main.VERBS[verb]


@pytest.mark.behaviour
def test_the_version_is_the_packages(bifocal):
    said = bifocal("--version")
    assert (said.status, said.text.strip()) == (0, version("bifocal"))


@pytest.mark.behaviour
@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_one_message(bifocal, tmp_path, query):
    said = bifocal("search", tmp_path, query)
    assert said.status == 1
    assert "the query is empty: give a text, or the path of a picture" in said.text


@pytest.mark.behaviour
def test_a_demo_whose_disk_is_full_at_the_end_is_one_message(bifocal, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "BINDING_PAIRS", 4)
    monkeypatch.setattr(Page, "write", full)
    small = ("train.steps=1", "data.batch_size=8", "data.val=scenes:val:12", "tokenizer.samples=40")
    small += tuple(f"evaluate.zero_shot.{x}.data=scenes:{x}:12" for x in ("seen", "unseen"))
    said = bifocal("demo", f"out={tmp_path / 'demo'}", *small)
    assert said.status == 1
    assert "cannot write the report" in said.text
    assert "No space left on device" in said.text
    assert "run the same command again" in said.text


@pytest.mark.behaviour
def test_a_suite_whose_page_cannot_be_written_is_one_message(bifocal, tmp_path):
    (tmp_path / "suite.toml").write_text("[models.a]\nsource = 'gone'\n[data.b]\ntest = 'scenes'\n")
    assert bifocal("evaluate", "suite", tmp_path / "suite.toml").status == 1
    (tmp_path / "suite" / "suite.html").unlink()
    (tmp_path / "suite" / "suite.html").mkdir()
    said = bifocal("evaluate", "suite", tmp_path / "suite.toml")
    assert said.status == 1
    assert "cannot write" in said.text
