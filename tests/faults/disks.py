"""Disks that are full, files that may not grow, folders that cannot be written."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.campaign import Outcome, Skipped, fault
from faults.processes import Lab, Progress, assert_same, kill, lives

STEPS = 60


def one_message(said: str) -> None:
    """Check that a person reads one error, and no traceback."""
    assert "Traceback" not in said, said
    assert sum(line.startswith("error:") for line in said.splitlines()) == 1, said
    assert "cannot write" in " ".join(said.split()), said


@fault("files that may not grow beyond a random size", short=2, long=60, forks=True)
def small_files(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Let write() fail with EFBIG: metrics, events, checkpoints, the model or the report."""
    lab = Lab(folder, steps=STEPS)
    whole = lab.whole("whole")
    sizes = sorted(path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file())
    named: set[str] = set()
    for number in range(times):
        out = f"small-{number}"
        size = int(draw.choice([n for n in sizes if n > 4000]) * draw.uniform(0.3, 0.95))
        before = lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
        status = lab.finish(out, before=before)
        assert status == [1], lab.said(out)
        one_message(lab.said(out))
        named |= {n for n in FILES if n in " ".join(lab.said(out).split()).split("cannot write")[1]}
        lab.latest(out)
        assert_same(lab.whole(out), whole)
    return Outcome(
        times,
        f"one message (it named {', '.join(sorted(named))}); started again with room, the run ends "
        "with the same bits",
    )


FILES = ("metrics.jsonl", "tensorboard", "checkpoint", "best", "model", "report", "results.json")


@fault("a full disk (tmpfs of a random size)", short=0, long=40, forks=True)
def full_disk(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Let write() fail with ENOSPC wherever the last byte is taken."""
    lab = Lab(folder, steps=STEPS)
    whole = lab.reference()
    named: set[str] = set()
    full = 0
    for number in range(times):
        out = f"full-{number}"
        (folder / out).mkdir()
        with mounted(folder / out, f"size={draw.randint(4, 300)}k"):
            status = lab.finish(out)
            assert status in ([0], [1]), lab.said(out)
            if status == [1]:
                full += 1
                one_message(lab.said(out))
                said = " ".join(lab.said(out).split()).split("cannot write")[1]
                named |= {name for name in FILES if name in said}
                lab.latest(out)
                mount(folder / out, "remount,size=16m")
            assert_same(lab.whole(out), whole)
    return Outcome(
        full,
        f"one message (it named {', '.join(sorted(named))}); started again with room, the run ends "
        "with the same bits",
    )


@fault("a file system that is read-only", short=0, long=5, forks=True)
def read_only(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Start and resume on a file system without writing."""
    lab = Lab(folder, steps=STEPS)
    whole = lab.reference()
    for number in range(times):
        out = f"still-{number}"
        (folder / out).mkdir()
        with mounted(folder / out, "size=16m"):
            if number % 2:
                pids, progress = lab.fork(out), Progress(folder / out)
                progress.wait(draw.randint(4, 20), lambda pids=pids: all(map(lives, pids)))
                kill(pids, draw)
            mount(folder / out, "remount,ro")
            assert lab.finish(out) == [1], lab.said(out)
            assert "Read-only file system" in " ".join(lab.said(out).split()), lab.said(out)
            assert "Traceback" not in lab.said(out), lab.said(out)
            mount(folder / out, "remount,rw")
            assert_same(lab.whole(out), whole)
    return Outcome(times, "one message; started again when it can be written, the run goes on")


@fault("a file where the run's folder should be", short=1, long=5, forks=True)
def in_the_way(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Name a folder below a file."""
    lab = Lab(folder, steps=STEPS)
    (folder / "file").write_text("in the way")
    for _ in range(times):
        assert lab.finish("file/run") == [1]
    return Outcome(times, "one message before anything is trained")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Lay a file system of its own over a folder."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        raise Skipped("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(folder: Path, options: str) -> None:
    """Change how a file system is mounted."""
    os.sync()
    subprocess.run(["mount", "-o", options, str(folder)], check=True)
