"""What is written of steps that could not be applied, so that their cause can be found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bifocal.files import write_atomically
from bifocal.train.folders import one_message
from bifocal.train.hooks import Metrics
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics

REJECTED = "rejected.jsonl"


class RejectedLog:
    """Writes one line to `rejected.jsonl` for every step whose loss or gradient is not finite.

    It holds the keys of this process's pairs, and of each parameter the largest magnitude, and of
    its gradient the norm and the number of elements that are not finite. A resumed run drops the
    lines that lie beyond its checkpoint.

    Args:
        out: the run's folder.
        run: as it stands before its next step.

    Raises:
        CheckpointError: the file cannot be written; its lines of before are untouched.
    """

    def __init__(self, out: Path, run: Run) -> None:
        self._path = out / REJECTED
        if run.world.leads and self._path.exists():
            with one_message(f"write {self._path}"):
                write_atomically(self._path, _up_to(self._path, run.step))

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Write the line if the step was not applied."""
        if metrics.applied:
            return
        row = {
            "step": metrics.step,
            "rank": run.world.rank,
            "loss": _number(metrics.loss),
            "grad_norm": _number(metrics.grad_norm),
            "logit_scale": _number(metrics.logit_scale),
            "keys": list(metrics.keys),
            "parameters": parameter_statistics(run.model),
        }
        # One write a line: those of several processes do not mix.
        with (
            one_message(f"write {self._path}"),
            self._path.open("ab", buffering=0) as file,
        ):
            file.write(json.dumps(row).encode() + b"\n")

    def on_evaluation(self, run: Run, metrics: Metrics) -> None:
        """Leave evaluations to others."""

    def on_message(self, message: str) -> None:
        """Leave messages to the screen."""


def parameter_statistics(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return by parameter its largest magnitude, its gradient's norm and non-finite elements."""
    return {
        name: {
            "largest": _number(parameter.detach().abs().max().item()),
            "grad_norm": _number(parameter.grad.norm().item()),
            "not_finite": int((~torch.isfinite(parameter.grad)).sum()),
        }
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _up_to(path: Path, step: int) -> bytes:
    """Return the lines up to a step, without those that a crash has torn."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("step", step + 1) <= step:
            kept.append(line.rstrip(b"\n") + b"\n")
    return b"".join(kept)


def _number(value: float) -> float | str:
    """Return a number that JSON has, or the name of one that it has not."""
    return value if math.isfinite(value) else str(value)
