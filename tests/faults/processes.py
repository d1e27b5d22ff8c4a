"""Tiny runs in processes of their own: forked from this one, or as a user starts them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot  # noqa: F401 - as torch._dynamo: loaded once for all copies
import torch._dynamo  # noqa: F401
from faults.shards import write_pairs

from bifocal.cli.main import run as bifocal
from bifocal.train import best, checkpoint
from bifocal.train.folders import UNFINISHED

RECIPE = """
[model]
embed_dim = 16
vision = { image_size = 16, patch_size = 8, width = 16, layers = 1, heads = 1 }
text = { context_length = 12, vocab_size = 540, width = 16, layers = 1, heads = 1 }
[data]
train = "pairs-*.tar"
val = "pairs-0.tar"
batch_size = 8
threads = 1
[optim]
lr = 1e-3
warmup_steps = 2
[train]
checkpoint_every = 3
evaluate_every = 7
keep_best = "val/loss"
log_every = 1
device = "cpu"
"""


REFERENCES: dict[tuple[object, ...], dict[str, bytes]] = {}


@dataclass
class Lab:
    """A folder with data and a recipe, and the runs that are started there."""

    folder: Path
    steps: int
    shards: int = 2
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for n in range(self.shards):
            write_pairs(self.folder / f"pairs-{n}.tar", 24, first=24 * n)
        (self.folder / "tiny.toml").write_text(RECIPE)

    def arguments(self, out: str) -> list[str]:
        """Return the arguments of `bifocal` that train into a folder of the lab."""
        settings = (f"data.root={self.folder}", f"out={self.folder / out}")
        recipe = self.folder / "tiny.toml"
        return ["train", str(recipe), *settings, f"train.steps={self.steps}", *self.options]

    def said(self, out: str) -> str:
        """Return what the last start into a folder has printed."""
        return self._said(out).read_text("utf-8", "replace")

    def fork(self, out: str, size: int = 1, before: Callable[[], object] = int) -> list[int]:
        """Start a run of so many processes as copies of this one, and return their ids."""
        said = self._said(out)
        said.unlink(missing_ok=True)
        port = free_port()
        return [self._fork(out, said, (rank, size, port), before) for rank in range(size)]

    def start(self, out: str, *torchrun: str) -> subprocess.Popen[bytes]:
        """Start a run as a user does, perhaps by torchrun."""
        module = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
        with self._said(out).open("wb") as said:
            return subprocess.Popen(
                [sys.executable, *module, "-m", "bifocal", *self.arguments(out)],
                stdout=said,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def finish(self, out: str, size: int = 1, before: Callable[[], object] = int) -> list[int]:
        """Run to the end in forked processes and return their statuses."""
        return [wait(pid) for pid in self.fork(out, size, before)]

    def whole(self, out: str, size: int = 1) -> dict[str, bytes]:
        """Run to the end, which must be reached, and return what must not depend on faults."""
        assert set(self.finish(out, size)) == {0}, self.said(out)
        return self.results(out)

    def reference(self, size: int = 1) -> dict[str, bytes]:
        """Return the results of the run without faults, which is made once for all labs alike."""
        key = (self.steps, self.shards, self.options, size)
        if key not in REFERENCES:
            REFERENCES[key] = self.whole("whole", size)
        return REFERENCES[key]

    def results(self, out: str) -> dict[str, bytes]:
        """Return the bytes of a finished run that its settings alone decide."""
        folder = self.folder / out
        last = f"{checkpoint.FOLDER}/step-{self.steps:08d}"
        names = ("model/model.safetensors", f"{last}/optimizer.safetensors")
        files = {name: (folder / name).read_bytes() for name in names}
        files |= {name: (folder / best.BEST / name).read_bytes() for name in ("model.safetensors",)}
        found = best.best(folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            for name in ("pairs_per_second", "skipped", "truncated"):
                row.pop(name, None)  # a process's own, from its start
        return files | {"best": repr(found).encode(), "metrics": json.dumps(rows).encode()}

    def latest(self, out: str) -> int:
        """Return the step of the newest checkpoint; all must be whole, and the best model too."""
        folder, heard = self.folder / out, []
        newest = checkpoint.latest(folder, heard.append)
        best.best(folder, heard.append)
        assert not heard, heard
        return int(newest.name.removeprefix("step-")) if newest else 0

    def torn(self, out: str) -> bool:
        """Return whether a kill left something half written."""
        return any((self.folder / out).rglob(f"{UNFINISHED}*"))

    def _said(self, out: str) -> Path:
        return self.folder / f"{out.replace('/', '-')}.said"

    def _fork(
        self, out: str, said: Path, place: tuple[int, int, int], before: Callable[[], object]
    ) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            descriptor = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            rank, size, port = place
            if size > 1:
                names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
                values = (rank, rank, size, "127.0.0.1", port)
                os.environ.update(zip(names, map(str, values), strict=True))
            sys.argv = ["bifocal", *self.arguments(out)]
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            before()
            bifocal()
        except SystemExit as ended:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what comes now finds nothing to stop
            status = int(ended.code or 0)
        except BaseException:  # noqa: BLE001 - the copy must end here, whatever comes
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def assert_same(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Compare the results of two runs."""
    differ = [name for name in one if one[name] != other[name]]
    assert not differ, differ


def wait(pid: int, seconds: float = 90) -> int:
    """Return how a process ended: its status, or minus the signal that ended it."""
    deadline = time.monotonic() + seconds
    while lives(pid):
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lives(pid: int) -> bool:
    """Return whether a process that was started here has not ended; it is not buried."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def kill(pids: list[int], draw: random.Random) -> None:
    """Kill processes that are still there, one shortly after the other, and bury them."""
    for pid in draw.sample(pids, len(pids)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(draw.uniform(0, 0.01) if len(pids) > 1 else 0)
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Progress:
    """How far a run has come since it was started, by its metrics."""

    def __init__(self, out: Path) -> None:
        self._path = out / "metrics.jsonl"
        self._before = self._inode()

    def step(self) -> int:
        """Return the last step written down; 0 until this start has opened the file anew."""
        if self._inode() == self._before:
            return 0
        with suppress(OSError, ValueError, IndexError):
            return json.loads(self._path.read_bytes()[-2000:].splitlines()[-1])["step"]
        return 0

    def wait(self, step: int, alive: Callable[[], bool], seconds: float = 60) -> bool:
        """Return once a step is reached; false if the run has ended before."""
        deadline = time.monotonic() + seconds
        while self.step() < step:
            assert time.monotonic() < deadline, f"step {step} is not reached"
            if not alive():
                return False
            time.sleep(0.002)
        return True

    def _inode(self) -> int:
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return 0
