"""What is written of steps that could not be applied, so that their cause can be found."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bifocal.files import write_atomically
from bifocal.optim.spread import is_spread, local
from bifocal.train.folders import one_message
from bifocal.train.hooks import Metrics
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics
from bifocal.world import World

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
            "parameters": parameter_statistics(run.model, run.world),
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


def parameter_statistics(model: nn.Module, world: World) -> dict[str, dict[str, Any]]:
    """Return by parameter its largest magnitude, its gradient's norm and non-finite elements.

    A collective call: rows that are spread over the processes are counted where they are, and
    every process gets the statistics of the whole.
    """
    given = [(name, p, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    if not given:
        return {}
    parts = [(local(parameter.detach()), local(grad)) for _, parameter, grad in given]
    sizes = torch.stack([_sizes(*part) for part in parts])
    counts = torch.stack([(~torch.isfinite(grad)).sum() for _, grad in parts])
    everywhere = world.gather(sizes[None])
    spread = torch.tensor([is_spread(grad) for *_, grad in given], device=counts.device)
    # Of NaN and infinity amax and the norm return NaN; the maximum over processes does not.
    largest = everywhere[..., 0].amax(dim=0)
    norms = torch.where(spread, torch.linalg.vector_norm(everywhere[..., 1], dim=0), sizes[:, 1])
    counts = torch.where(spread, world.gather(counts[None]).sum(dim=0), counts)
    return {
        name: {"largest": _number(most), "grad_norm": _number(norm), "not_finite": count}
        for (name, *_), most, norm, count in zip(
            given, largest.tolist(), norms.tolist(), counts.tolist(), strict=True
        )
    }


def _sizes(parameter: Tensor, grad: Tensor) -> Float[Tensor, " 2"]:
    """Return the largest magnitude of rows and their gradient's norm; there may be no rows."""
    largest = parameter.abs().amax() if parameter.numel() else parameter.new_zeros(())
    norm = torch.linalg.vector_norm(grad, dtype=torch.float32)
    return torch.stack([largest.float(), norm])


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
