"""What a person sees while something is read: a bar with a rate and the time left."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bifocal.pretrained import Told

QUIET_SECONDS = 30.0


@contextmanager
def watching(*names: str, console: Console | None = None) -> Generator[dict[str, Told]]:
    """Show how much is done of each of the named kinds, as soon as one is told of.

    Where the output is no terminal, a plain line is printed every half minute instead.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        expand=True,
        transient=True,
        speed_estimate_period=120,
    ) as progress:
        yield {name: _Watcher(name, console, progress) for name in names}


class _Watcher:
    """One bar."""

    def __init__(self, name: str, console: Console, progress: Progress) -> None:
        self._name, self._console, self._progress = name, console, progress
        self._task: TaskID | None = None
        self._began = self._told = time.perf_counter()
        self._first = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._task is None:
            self._task = self._progress.add_task(self._name, total=total, rate="")
            # What was there before is not part of the rate.
            self._first, self._began = done, now
        rate = (done - self._first) / max(now - self._began, 1e-9)
        shown = f"{rate:,.0f}/s" if rate else ""
        self._progress.update(self._task, completed=done, total=total, rate=shown)
        if not self._console.is_terminal and now - self._told > QUIET_SECONDS:
            self._told = now
            left = f"  {(total - done) / rate / 60:.1f} min left" if rate else ""
            self._console.print(
                f"{self._name} {done:,} of {total:,}  {shown}{left}", highlight=False
            )
