"""Faults that are injected on purpose, how often, and the table of what came of them.

Each fault is a function that injects it so many times, raises where the outcome is not the one
expected, and returns in words what came of it. `test_campaign.py` runs all in their short form,
`python -m tests.faults` in their long one.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class Skipped(Exception):
    """This machine cannot inject the fault; says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How often a fault was injected, and what came of it, in words."""

    injected: int
    text: str


Inject = Callable[[Path, random.Random, int], Outcome]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Attributes:
        name: of the fault, as the table shows it.
        inject: takes an empty folder, random numbers and how often.
        short, long: how often in either form; 0 leaves it out.
        seconds: after which the short form counts as hanging; the long one after ten times that.
        forks: whether it starts copies of the process, which may hold no threads then.
    """

    name: str
    inject: Inject
    short: int
    long: int
    seconds: int
    forks: bool

    @property
    def room(self) -> str:
        """Name of the file that the fault stands in."""
        return self.inject.__module__.rpartition(".")[2]


FAULTS: list[Fault] = []


def fault(
    name: str, *, short: int, long: int, seconds: int = 180, forks: bool = False
) -> Callable[[Inject], Inject]:
    """Enter a function into the campaign."""

    def enter(inject: Inject) -> Inject:
        FAULTS.append(Fault(name, inject, short, long, seconds, forks))
        return inject

    return enter


def run(one: Fault, folder: Path, times: int, patience: int = 1) -> Outcome:
    """Inject a fault; a hang ends the process with the stacks of all its threads."""
    folder.mkdir(parents=True)
    faulthandler.dump_traceback_later(one.seconds * patience, exit=True, file=sys.__stderr__)
    try:
        return one.inject(folder, random.Random(one.name), times)
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_all(faults: list[Fault], folder: Path, *, long: bool) -> tuple[list[str], list[str]]:
    """Run faults one after the other; return their rows, and the names of those that failed."""
    rows, failed = [], []
    for number, one in enumerate(faults):
        times = one.long if long else one.short
        if not times:
            continue
        began = time.monotonic()
        try:
            found = run(one, folder / str(number), times, patience=10 if long else 1)
            row = f"| {one.name} | {found.injected:,} | {found.text} |"
        except Skipped as reason:
            row = f"| {one.name} | – | not injected: {reason} |"
        except Exception:  # noqa: BLE001 - the others are still to be seen
            traceback.print_exc()
            failed.append(one.name)
            continue
        print(f"{row} {time.monotonic() - began:.1f} s", flush=True)
        rows.append(row)
    return rows, failed
