"""Worlds of real processes for tests: quickly forked, or started by torchrun as a user does.

Each has a time limit, leaves no process behind, and shows what all its processes said if one fails.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

PRELOADED = [
    *("torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor"),
    *("bifocal.cli.main", "matplotlib.backends.backend_agg", "matplotlib.figure"),
]


@cache
def copies() -> ForkServerContext:
    """Return what starts processes as copies of one that has no threads and has loaded bifocal.

    Loading takes four seconds of each process that starts from nothing. The suite's own process
    cannot be copied: it has threads, and its bifocal checks shapes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_world(
    size: int, folder: Path, target: Callable[..., object], *arguments: object, seconds: float = 100
) -> list[str]:
    """Call a function in so many processes that may join a world; return what each has said.

    Args:
        size: of the world.
        folder: for what they say.
        target: of a module, to be found there by its name.
        arguments: of the function, which can be pickled.
        seconds: until the processes are killed, which fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = [folder / f"said-{rank}" for rank in range(size)]
    port, context = free_port(), copies()
    members = [
        context.Process(target=_member, args=(target, arguments, (rank, size, port), said[rank]))
        for rank in range(size)
    ]
    deadline = time.monotonic() + seconds
    try:
        for member in members:
            member.start()
        while any(member.exitcode is None for member in members):
            if any(member.exitcode for member in members):  # the others may wait for it for ever
                deadline = min(deadline, time.monotonic() + 5)
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
    finally:
        for member in members:
            if member.pid is not None:
                member.kill()
                member.join()
    texts = [path.read_text("utf-8", "replace") if path.exists() else "" for path in said]
    ended = [member.exitcode for member in members]
    shown = "\n".join(f"--- process {n} ended with {ended[n]}\n{texts[n]}" for n in range(size))
    assert not any(ended), shown
    return texts


def _member(
    target: Callable[..., object], arguments: Sequence[object], place: tuple[int, ...], said: Path
) -> None:
    descriptor = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()
    rank, size, port = place
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, size, "127.0.0.1", port)
    os.environ.update(zip(names, map(str, values), strict=True))
    import torch

    torch.set_num_threads(1)
    target(*arguments)


def bifocal(*arguments: object) -> None:
    """Run the command line; for `run_world`."""
    from bifocal.cli.main import run

    sys.argv = ["bifocal", *map(str, arguments)]
    run()


@contextmanager
def torchrun(
    size: int, *arguments: object, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start `bifocal` by torchrun; when the block is left, what is still there is killed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options]
    job = subprocess.Popen(
        [*command, f"--nproc-per-node={size}", "-m", "bifocal", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )
    try:
        yield job
    finally:
        kill_all(job)


def kill_all(job: subprocess.Popen[str]) -> None:
    """Kill -9 a process and those that it started, and bury it."""
    for pid in (*children(job.pid), job.pid) if job.returncode is None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if job.stdout and not job.stdout.closed:
        job.communicate()


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def finish(job: subprocess.Popen[str], seconds: float = 100) -> str:
    """Return what a job has said when it has ended well."""
    said, _ = job.communicate(timeout=seconds)
    assert job.returncode == 0, said
    return said


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
