"""kill -9 at random moments, restarts, and bits that must not show it."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from faults.campaign import Outcome, fault
from faults.processes import Lab, Progress, assert_same, kill, lives

STEPS_A_KILL = 20
"""Room for a restart to come further than the kill before it, on a slow machine too."""


def killed(folder: Path, draw: random.Random, times: int, *, size: int, fresh: int) -> Outcome:
    """Kill one run so many times, every so often as a user starts it, and let it end."""
    lab = Lab(folder, steps=STEPS_A_KILL * times)
    whole = lab.reference(size)
    torn = starting = 0
    for number in range(times):
        before, progress = lab.latest("broken"), Progress(folder / "broken")
        if size == 1 and fresh and number % max(1, times // fresh) == 0:
            process = lab.start("broken")
            pids, alive = [process.pid], lambda process=process: process.poll() is None
        else:
            pids = lab.fork("broken", size)
            alive = lambda pids=pids: all(map(lives, pids))  # noqa: E731
        if number % 4 == 3:  # anywhere in a start
            time.sleep(draw.uniform(0, 0.3))
            starting += progress.step() == 0
        else:
            assert progress.wait(before + draw.randint(1, 6), alive), lab.said("broken")
            time.sleep(draw.uniform(0, 0.02))
        kill(pids, draw)
        torn += lab.torn("broken")
        assert lab.latest("broken") >= before, "a checkpoint was lost"
    assert_same(lab.whole("broken", size), whole)
    return Outcome(
        times,
        f"weights, optimizer, best model and metrics are those of the uninterrupted run, bit for "
        f"bit; {starting} kills came before the first step, {torn} left something half written",
    )


@fault("kill -9 of one run, at random moments", short=6, long=110, forks=True)
def one_process(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Kill a run of one process."""
    return killed(folder, draw, times, size=1, fresh=1 if times < 50 else 15)


@fault("kill -9 of all of 2 processes", short=0, long=20, forks=True)
def two_processes(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Kill a run of two processes."""
    return killed(folder, draw, times, size=2, fresh=0)


@fault("kill -9 of all of 4 processes", short=0, long=20, forks=True)
def four_processes(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Kill a run of four processes."""
    return killed(folder, draw, times, size=4, fresh=0)


@fault("kill -9 of one of 2 processes under torchrun --max-restarts", short=1, long=3, forks=True)
def one_of_two(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Kill ranks and let torchrun restart the job."""
    return restarted(folder, draw, times, size=2)


@fault("kill -9 of one of 4 processes under torchrun --max-restarts", short=0, long=3, forks=True)
def one_of_four(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Kill ranks and let torchrun restart the job."""
    return restarted(folder, draw, times, size=4)


def restarted(folder: Path, draw: random.Random, times: int, *, size: int) -> Outcome:
    """Kill one rank of a job after the other; torchrun alone brings it back."""
    lab = Lab(folder, steps=40 * (times + 1))
    whole = lab.reference(size)
    options = ("--standalone", f"--nproc-per-node={size}", f"--max-restarts={times}")
    job = lab.start("broken", *options)
    for _ in range(times):
        before, progress = lab.latest("broken"), Progress(folder / "broken")
        alive = lambda: job.poll() is None  # noqa: E731
        assert progress.wait(before + draw.randint(1, 20), alive), lab.said("broken")
        with suppress(ProcessLookupError):
            os.kill(draw.choice(children(job.pid)), signal.SIGKILL)
    assert job.wait() == 0, lab.said("broken")
    assert lab.said("broken").count("resumed") == times, lab.said("broken")
    assert_same(lab.results("broken"), whole)
    return Outcome(times, "torchrun starts the job again, and it ends with the same bits")


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
