"""What happens to a run while it goes on: signals, vanishing shards, too few files, no memory."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from faults.campaign import Outcome, fault
from faults.processes import Lab, Progress, assert_same, lives, wait

from bifocal.data import loader

STEPS = 60


def signalled(folder: Path, draw: random.Random, times: int, *numbers: int) -> tuple[int, int]:
    """Send signals to runs at random moments; return how many saved, and how many just ended."""
    lab = Lab(folder, steps=STEPS)
    whole = lab.reference()
    saved = ended = 0
    for number in range(times):
        out = f"asked-{number}"
        progress = Progress(folder / out)
        pids = lab.fork(out)
        progress.wait(draw.randint(1, STEPS // 2), lambda pids=pids: lives(pids[0]))
        for one in numbers:
            os.kill(pids[0], one)
            time.sleep(draw.uniform(0, 0.01))
        status, said = wait(pids[0]), " ".join(lab.said(out).split())
        assert "Traceback" not in said, said
        assert status in (130, -numbers[-1]), (status, said)
        if "stopped at step" in said:
            stopped = int(said.split("stopped at step ")[1].split()[0])
            assert lab.latest(out) == stopped
            saved += 1
        else:
            assert len(numbers) == 2, said
            lab.latest(out)
            ended += 1
        if number % 3 == 0:
            assert_same(lab.whole(out), whole)
    return saved, ended


@fault("SIGTERM", short=1, long=30, forks=True)
def terminated(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Ask a run to stop, as schedulers do before they kill."""
    signalled(folder, draw, times, signal.SIGTERM)
    return Outcome(times, "the step is finished and a checkpoint written; the same bits in the end")


@fault("SIGINT, and again within 10 ms", short=1, long=30, forks=True)
def interrupted(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Press Ctrl-C twice."""
    saved, ended = signalled(folder, draw, times, signal.SIGINT, signal.SIGINT)
    return Outcome(
        times,
        f"{saved} had written their checkpoint, {ended} stopped at once and go on from the one "
        "before; no traceback; the same bits in the end",
    )


@fault("a shard deleted, emptied or replaced while a run reads it", short=1, long=12, forks=True)
def vanished(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Take a shard away from a run that has read some of it, and start that run again."""
    same = skipped = 0
    for number in range(times):
        place = folder / f"lab-{number}"
        place.mkdir()
        lab = Lab(place, steps=STEPS, shards=6)
        whole = lab.reference()
        pids, progress = lab.fork("run"), Progress(place / "run")
        progress.wait(draw.randint(1, 30), lambda pids=pids: lives(pids[0]))
        shard = place / f"pairs-{draw.randint(1, 5)}.tar"
        match number % 3:
            case 0:
                shard.unlink()
            case 1:
                shard.write_bytes(b"")
            case _:
                other = shard.with_suffix(".new")
                other.write_bytes(b"other" * 1000)
                other.replace(shard)
        assert wait(pids[0]) == 0, lab.said("run")
        lab.latest("run")
        if number % 3 == 1:
            skipped += json.loads((place / "run/results.json").read_text())["skipped"]
            assert skipped
        else:
            assert_same(lab.results("run"), whole)
            same += 1
        assert lab.finish("run") == [1], lab.said("run")
        assert "trained on other data" in " ".join(lab.said("run").split()), lab.said("run")
    return Outcome(
        times,
        f"deleted or replaced, {same} runs had the shard open and end with the same bits; emptied, "
        f"its samples are skipped and counted ({skipped}, below data.max_bad); started again, each "
        "run refuses: other data",
    )


@fault("too few open files allowed (RLIMIT_NOFILE)", short=0, long=12, forks=True)
def few_files(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Start with more shards than files may be open."""
    lab = Lab(folder, steps=20, shards=60)
    whole = lab.reference()
    through = stopped = 0
    for number in range(times):
        limit = draw.randint(16, 60)
        before = lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        out = f"few-{number}"
        status, said = lab.finish(out, before=before)[0], " ".join(lab.said(out).split())
        assert "Traceback" not in said, said
        assert status in (0, 1), said
        if status == 0:
            assert_same(lab.results(out), whole)
        else:
            assert "Too many open files" in said, said
        through, stopped = through + (status == 0), stopped + (status == 1)
    return Outcome(times, f"{through} runs end with the same bits; {stopped} stop with one message")


def broken_decoder(
    folder: Path, draw: random.Random, times: int, error: Callable[[], Exception]
) -> list[str]:
    """Let the decoder raise at a random picture, in a thread; return what was said."""
    lab = Lab(folder, steps=STEPS)
    whole, heard = lab.reference(), []
    for number in range(times):
        out, left = f"crash-{number}", draw.randint(60, 400)

        def before(left: int = left) -> None:
            original, seen = loader.read_image, iter(range(10**6))

            def crash(*arguments: object) -> object:
                if next(seen) == left:
                    raise error()
                return original(*arguments)

            loader.read_image = crash

        assert lab.finish(out, before=before) != [0], lab.said(out)
        heard.append(lab.said(out))
        lab.latest(out)
        assert_same(lab.whole(out), whole)
    return heard


@fault("an unexpected exception in a thread that decodes", short=1, long=10, forks=True)
def crashing_decoder(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Raise what no decoder is known to raise."""
    for said in broken_decoder(folder, draw, times, lambda: RuntimeError("a fault of the decoder")):
        assert "a fault of the decoder" in said
    return Outcome(
        times, "the run stops with its traceback, a fault of bifocal; started again, the same bits"
    )


@fault("MemoryError in a thread that decodes", short=1, long=10, forks=True)
def memory(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Run out of memory."""
    for said in broken_decoder(folder, draw, times, MemoryError):
        assert "Traceback" not in said, said
        assert "memory ran out" in " ".join(said.split()), said
    return Outcome(times, "one message; started again, the run ends with the same bits")
