"""What is written of steps that could not be applied, so that their cause can be found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bifocal.train.hooks import Metrics
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics

REJECTED = "rejected.jsonl"


class RejectedLog:
    """Writes one line to `rejected.jsonl` for every step whose loss or gradient is not finite.

    It holds the keys of this process's pairs, and of each parameter the largest magnitude, and of
    its gradient the norm and the number of elements that are not finite.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / REJECTED

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
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

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


def _number(value: float) -> float | str:
    """Return a number that JSON has, or the name of one that it has not."""
    return value if math.isfinite(value) else str(value)
