"""Metrics of a run as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.summary import scalar

from bifocal.files import json_of, write_atomically
from bifocal.train.folders import one_message
from bifocal.train.hooks import Metrics
from bifocal.train.loop import evaluation_due
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics

METRICS = "metrics.jsonl"


class MetricsLog:
    """Writes `metrics.jsonl` and TensorBoard events into the run's folder.

    A resumed run drops the lines that lie beyond its checkpoint, and that of an evaluation which it
    does again: the file tells one story.

    Args:
        run: as it stands before its next step.
        out: the run's folder.

    Raises:
        CheckpointError: a file cannot be written; the lines of before are untouched.
    """

    def __init__(self, run: Run, out: Path) -> None:
        self._every = run.config.train.log_every
        step = run.step
        measures_again = evaluation_due(run) or step == run.total_steps
        self._path = out / METRICS
        with one_message(f"write {self._path}"):
            kept = [
                row
                for row in read_metrics(out)
                if row["step"] < step
                or (row["step"] == step and not (row["kind"] == "evaluation" and measures_again))
            ]
            rows = "".join(json_of(row) + "\n" for row in kept)
            write_atomically(self._path, rows.encode())
        self._board = Board(out / "tensorboard", step + 1)
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
            "text_length": metrics.tokens / len(metrics.keys),
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
        """Flush what TensorBoard reads.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._board.close()

    def _write(self, step: int, kind: str, row: Mapping[str, float]) -> None:
        line = json_of({"step": step, "kind": kind, **row}) + "\n"
        with one_message(f"write {self._path}"), self._path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self._board.write(step, {f"{kind}/{name}": value for name, value in row.items()})


class Board:
    """Writes TensorBoard events in the thread that trains.

    tensorboardX's SummaryWriter leaves them to a thread of its own, which a full disk ends; the run
    then waits for ever for room in its queue.

    Args:
        folder: of the events; it is made.
        step: what earlier files hold from here on is void.
    """

    FLUSH_SECONDS = 30.0

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        with one_message(f"write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            # The name tells the second; two starts within one are told apart by their process.
            self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
            self._events.write_event(Event(step=step, file_version="brain.Event:2"))
            begun = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=step, session_log=begun))
        self._flushed = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars by name."""
        now = time.monotonic()
        with one_message(f"write to {self._folder}"):
            for name, value in values.items():
                event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
                self._events.write_event(event)
            if now - self._flushed > self.FLUSH_SECONDS:
                self._events.flush()
                self._flushed = now

    def close(self) -> None:
        """Flush and close the file."""
        with one_message(f"write to {self._folder}"):
            self._events.close()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics, NaN for null; a line torn by a crash is left out."""
    try:
        lines = (out / METRICS).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"step", "kind"} <= row.keys():
            rows.append({key: math.nan if value is None else value for key, value in row.items()})
    return rows
