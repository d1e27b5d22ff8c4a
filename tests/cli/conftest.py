"""The command line as a person meets it, without the two seconds of a new process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bifocal.cli.main import run

RECIPE = """
[model]
embed_dim = 32
[model.vision]
image_size = 32
patch_size = 8
width = 32
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 600
width = 32
layers = 1
heads = 2
[data]
train = "scenes:train:60"
val = "scenes:val:30"
batch_size = 16
[optim]
lr = 1e-3
warmup_steps = 2
[train]
steps = 4
device = "cpu"
[evaluate.zero_shot.seen]
data = "scenes:seen:30"
templates = ["a {}"]
"""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, line breaks as spaces."""
        return " ".join((self.out + " " + self.err).split())


Command = Callable[..., Said]


@pytest.fixture
def bifocal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the program with arguments; whatever a person must never see is an error here."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["bifocal", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path
