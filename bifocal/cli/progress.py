"""What a person sees while a run goes on: a bar with rate, loss and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bifocal.train.hooks import Metrics
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics


class ProgressHook:
    """Shows steps on a live bar, and evaluations as lines above it.

    Where the output is no terminal, a plain line is printed every half minute instead.
    """

    QUIET_SECONDS = 30.0

    def __init__(self, console: Console, progress: Progress, task: TaskID) -> None:
        self._console, self._progress, self._task = console, progress, task
        self._began = self._told = time.perf_counter()
        self._pairs = 0
        self._loss: float | None = None

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Move the bar."""
        self._pairs += metrics.pairs
        # A running mean over some fifty steps: steady enough to read, quick enough to follow.
        if metrics.applied:
            before = metrics.loss if self._loss is None else self._loss
            self._loss = 0.98 * before + 0.02 * metrics.loss
        else:
            self._console.print(f"step {metrics.step}: not finite, not applied", highlight=False)
        now = time.perf_counter()
        rate = self._pairs / (now - self._began)
        status = f"loss {self._loss or math.nan:.3f}  {rate:,.0f} pairs/s"
        self._progress.update(self._task, completed=metrics.step, status=status)
        if not self._console.is_terminal and now - self._told > self.QUIET_SECONDS:
            self._told = now
            left = (run.total_steps - metrics.step) * (now - self._began) * metrics.pairs
            left = left / self._pairs
            self._console.print(
                f"step {metrics.step}/{run.total_steps}  {status}  {left / 60:.1f} min left"
            )

    def on_evaluation(self, run: Run, metrics: Metrics) -> None:
        """Print the headline figures."""
        self._console.print(f"step {run.step}: {headline(metrics)}", highlight=False)

    def on_message(self, message: str) -> None:
        """Print a message."""
        self._console.print(message, highlight=False)


def headline(metrics: Metrics) -> str:
    """Return the figures of an evaluation that fit on a line."""
    wanted = {"top1": "top-1", "recall@10": "R@10", "loss": "loss"}
    shown = [
        f"{name.rsplit('_' if 'recall' in name else '/', 1)[0].replace('_', ' ')} {label} "
        + (f"{value:.3f}" if label == "loss" else f"{value:.1%}")
        for name, value in metrics.items()
        for ending, label in wanted.items()
        if name.endswith(ending)
    ]
    return "; ".join(shown)


@contextmanager
def progress_hook(console: Console, total: int, done: int) -> Iterator[ProgressHook]:
    """Show a bar over `total` steps, the first `done` behind us."""
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    live = console.is_terminal
    with Progress(*columns, console=console, disable=not live, expand=True) as progress:
        task = progress.add_task("", total=total, completed=done, status="")
        yield ProgressHook(console, progress, task)
