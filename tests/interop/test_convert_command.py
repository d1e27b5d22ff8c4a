"""`bifocal convert` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from bifocal.cli.convert import convert
from bifocal.errors import CheckpointError
from bifocal.interop.load import load
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour


@pytest.fixture
def run() -> Callable[..., object]:
    app = typer.Typer()
    app.command()(convert)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def saved(tiny_vit: CLIPConfig, random_pretrained: Callable[..., Pretrained], tmp_path: Path):
    model = random_pretrained(tiny_vit)
    model.save(tmp_path / "model")
    model.tokenizer.save(tmp_path / "vocabulary.json")
    return model


@pytest.mark.parametrize("target", ["bifocal", "open_clip", "huggingface"])
def test_it_writes_and_says_how_exact(target: str, run, saved, tmp_path: Path) -> None:
    done = run(tmp_path / "model", tmp_path / "out", "--to", target)
    assert done.exit_code == 0, done.output
    assert "image features  largest difference 0.0e+00" in done.output
    assert load(tmp_path / "out").model.config == saved.model.config


def test_a_bare_state_dict_needs_words(run, saved, tmp_path: Path) -> None:
    save_file(saved.model.state_dict(), tmp_path / "w.safetensors")
    words = (tmp_path / "w.safetensors", tmp_path / "out", "--to", "bifocal")
    for said, missing in (
        ((), "pass activation="),
        (("--activation", "gelu"), "name the architecture"),
    ):
        error = run(*words, *said).exception
        assert isinstance(error, CheckpointError)
        assert missing in str(error)


def test_it_does_not_overwrite(run, saved, tmp_path: Path) -> None:
    done = run(tmp_path / "model", tmp_path / "model", "--to", "open_clip")
    assert isinstance(done.exception, CheckpointError)
    assert "exists" in str(done.exception)


def test_an_unknown_format_is_refused(run, saved, tmp_path: Path) -> None:
    done = run(tmp_path / "model", tmp_path / "out", "--to", "onnx")
    assert done.exit_code == 2
