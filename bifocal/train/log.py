"""Metrics of a run as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from bifocal.train.hooks import Metrics
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics

METRICS = "metrics.jsonl"


class MetricsLog:
    """Writes `metrics.jsonl` and TensorBoard events into the run's folder.

    A resumed run drops the lines that lie beyond its checkpoint, and a complete one that of its
    last evaluation, which is done again: the file tells one story.

    Args:
        run: as it stands before its next step.
        out: the run's folder.
    """

    def __init__(self, run: Run, out: Path) -> None:
        self._every = run.config.train.log_every
        step = run.step
        path = out / METRICS
        kept = [
            row
            for row in read_metrics(out)
            if row["step"] <= step and (row["kind"] == "train" or row["step"] < run.total_steps)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self._since = time.perf_counter()
        self._pairs = self._losses = self._steps = 0.0

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Record the mean loss of applied steps and the rate since the last record."""
        self._pairs += metrics.pairs
        if metrics.applied:
            self._losses += metrics.loss
            self._steps += 1
        due = metrics.step % self._every == 0 or metrics.step == run.total_steps
        if not due or not self._steps:
            return
        now = time.perf_counter()
        row = {
            "loss": self._losses / self._steps,
            "logit_scale": metrics.logit_scale,
            "lr": metrics.lr,
            "grad_norm": metrics.grad_norm,
            "pairs_per_second": self._pairs / (now - self._since),
            "text_length": metrics.tokens / metrics.pairs,
            "pairs": run.cursor.position,
            "skipped": run.skips.counts.total(),
            "truncated": run.skips.truncated,
        }
        self._since, self._pairs, self._losses, self._steps = now, 0.0, 0.0, 0.0
        self._write(metrics.step, "train", row)

    def on_evaluation(self, run: Run, metrics: Metrics) -> None:
        """Record an evaluation; its time does not count into the training rate."""
        self._write(run.step, "evaluation", metrics)
        self._since, self._pairs = time.perf_counter(), 0.0

    def on_message(self, message: str) -> None:
        """Leave messages to the screen."""

    def close(self) -> None:
        """Flush both files."""
        self._file.close()
        self._board.close()

    def _write(self, step: int, kind: str, row: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, "kind": kind, **row}) + "\n")
        for name, value in row.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics; a line torn by a crash is left out."""
    try:
        lines = (out / METRICS).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
