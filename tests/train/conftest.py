"""Runs that take a second: tiny towers on a few built-in scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bifocal.loss.softmax import SoftmaxLoss
from bifocal.settings import merge, parse_override
from bifocal.train import loop
from bifocal.train.config import RunConfig
from bifocal.train.hooks import Hook
from bifocal.train.prepare import prepare
from bifocal.train.recipe import resolve_run
from bifocal.train.state import Run
from bifocal.world import World

TEXT = {"context_length": 16, "vocab_size": 600, "width": 32, "layers": 1, "heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "vit": {
        "embed_dim": 32,
        "vision": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "heads": 2},
        "text": TEXT,
    },
    "resnet": {
        "embed_dim": 32,
        "vision": {"image_size": 32, "width": 4, "layers": [1, 1, 1, 1], "heads": 2},
        "text": TEXT,
    },
}

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Return the settings of a tiny run; overrides are those of the command line."""

    def make(*overrides: str, model: str = "vit", out: str = "run") -> RunConfig:
        table: dict[str, Any] = {
            "out": str(tmp_path / out),
            "model": MODELS[model],
            "data": {"train": "scenes:train:48", "batch_size": 16},
            "optim": {"lr": 1e-3, "warmup_steps": 2},
            "train": {"steps": 8, "checkpoint_every": 2, "device": "cpu"},
            "evaluate": {"retrieval": False},
        }
        for override in overrides:
            table = merge(table, parse_override(override))
        return resolve_run(table, "test")

    return make


@pytest.fixture
def train() -> Callable[..., Run]:
    """Train settings to their end, resuming what lies in their folder."""

    def go(config: RunConfig, *hooks: Hook, say: Callable[[str], None] = print) -> Run:
        run = prepare(config, World(), say)
        loop.train(run, Path(config.out), SoftmaxLoss(), hooks, lambda run, last: {})
        return run

    return go
