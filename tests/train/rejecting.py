"""A run two of whose steps have gradients that are not finite, in one process or several."""

from __future__ import annotations

from pathlib import Path

from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train import loop
from bifocal.train.prepare import prepare
from bifocal.train.recipe import resolve_run
from bifocal.train.rejected import RejectedLog
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World, join_world

STEPS, PAIRS, PAIR = 5, 16, 13
POISON = {2: ("text", float("nan")), 4: ("image", float("inf"))}
"""Of which tower's features one gradient is replaced, and by what, at which step."""


class Poisoned:
    """Softmax, with one gradient that is no number at some steps."""

    def __init__(self) -> None:
        self.calls = 0

    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple:
        loss, gradients = SoftmaxLoss().value_and_grad(features, world, sharing)
        self.calls += 1
        row = PAIR - world.rank * len(features.image)
        if self.calls in POISON and 0 <= row < len(features.image):
            tower, value = POISON[self.calls]
            getattr(gradients, tower)[row, 0] = value
        return loss, gradients


def train(out: Path, world: World, spread: bool) -> None:
    table = {
        "out": str(out),
        "model": {
            "embed_dim": 16,
            "vision": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 1, "heads": 2},
            "text": {"context_length": 16, "vocab_size": 600, "width": 16, "layers": 1, "heads": 2},
        },
        "data": {"train": "scenes:train:48", "batch_size": PAIRS, "threads": 0},
        "optim": {"lr": 1e-3, "warmup_steps": 0},
        "train": {"steps": STEPS, "checkpoint_every": 1, "keep_last": STEPS, "shard": spread},
        "evaluate": {"retrieval": False},
    }
    table["train"]["device"] = "cpu"
    run = prepare(resolve_run(table, "test"), world, print)
    out.mkdir(exist_ok=True)
    loop.train(run, out, Poisoned(), [RejectedLog(out, run)], lambda run, last: {})


def main(out: Path, spread: bool) -> None:
    """Train in the processes of a world."""
    with join_world("cpu") as world:
        train(out, world, spread)
