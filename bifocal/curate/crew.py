"""Sources one behind the other, and processes that work on their samples in order.

What is yielded is the same for any number of processes. Each opens the sources for itself, and
ends when the one that began it does, however that ended. Knows sources; knows nothing of what is
done with the samples.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

from bifocal.data.sample import Sample, Source
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source
from bifocal.errors import DataError

SPAN = 32
"""Samples that a process works on at a time: enough to hide the cost of handing over."""
AHEAD = 4
"""Spans a process that may be done before they are asked for."""
FEW = 512
"""Samples that are done before further processes have started."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Opening:
    """Which sources are opened, and how; small enough to hand to a process."""

    specs: tuple[str, ...]
    reading: Reading

    def open(self) -> Joined:
        """Return the sources.

        Raises:
            ConfigError, DataError: one cannot be opened.
        """
        return Joined([open_source(spec, self.reading) for spec in self.specs])


class Joined:
    """Sources one behind the other.

    Attributes:
        sources: each of them.
        ends: the first position behind each.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.ends = tuple(itertools.accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self.ends[-1]

    def split(self, position: int) -> int:
        """Return which source holds a position."""
        return bisect.bisect_right(self.ends, position)

    def read(self, position: int) -> Sample:
        """Return the sample at a position.

        Raises:
            DataError: it is damaged.
        """
        source, index = self._find(position)
        return source.read(index)

    def captions(self, position: int) -> tuple[str, ...]:
        """Return the captions of the sample at a position.

        Raises:
            DataError: they are damaged.
        """
        source, index = self._find(position)
        return source.captions(index)

    def place(self, position: int) -> str:
        """Return where the sample at a position lies, as messages name it."""
        source, index = self._find(position)
        return source.place(index)

    def losses(self, split: int) -> Counter[tuple[str, str]]:
        """Return what a source could make no sample of, by place and reason."""
        match self.sources[split]:
            case ShardSource(losses=losses):
                return Counter(losses)
            case _:
                return Counter()

    def _find(self, position: int) -> tuple[Source, int]:
        split = self.split(position)
        return self.sources[split], position - (self.ends[split - 1] if split else 0)


Positions = Sequence[int] | np.ndarray
Task = Callable[[Joined, Positions], list[Result]]


def in_order(
    task: Task[Result], opening: Opening, joined: Joined, positions: Positions, workers: int
) -> Generator[Result, None, None]:
    """Yield what `task` makes of the samples at `positions`, in their order.

    Args:
        task: takes the sources and some positions; a function that can be pickled, or `partial`
            of one.
        opening: how other processes open the sources.
        joined: the sources, opened here.
        positions: of samples.
        workers: processes; of few samples this one alone does the work, as with 1.

    Raises:
        DataError: a process was killed.
    """
    spans = [positions[n : n + SPAN] for n in range(0, len(positions), SPAN)]
    if workers <= 1 or len(positions) < FEW:
        for span in spans:
            yield from task(joined, span)
        return
    # New interpreters: a fork would copy threads' locks in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(spans)), context, _begin)
    waiting: deque[Future[list[Result]]] = deque()
    left = iter(spans)
    try:
        while True:
            for span in itertools.islice(left, AHEAD * workers - len(waiting)):
                waiting.append(pool.submit(_work, task, opening, [int(n) for n in span]))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            f"one of {workers} processes was killed, perhaps for want of memory: give fewer "
            "--workers; the same command goes on"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Make a new process quiet and modest, and end it with the one that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _work(task: Task[Result], opening: Opening, positions: Positions) -> list[Result]:
    return task(_opened(opening), positions)


@lru_cache(maxsize=1)
def _opened(opening: Opening) -> Joined:
    return opening.open()
