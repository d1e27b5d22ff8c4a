"""Damage to a shard of a thousand pairs, and what is read of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from faults.campaign import Outcome, Skipped, fault
from faults.shards import ReadBack, archive, pair, picture

PAIRS = 1000
BLOCK = 512
DATA_BLOCK = 10240
"""What tar pads an archive to."""


@cache
def thousand() -> bytes:
    """Return a shard of a thousand pairs."""
    return archive(one for n in range(PAIRS) for one in pair(n))


def headers() -> list[int]:
    """Return where the headers of the shard lie."""
    raw = thousand()
    return [n for n in range(0, len(raw), BLOCK) if raw[n + 257 : n + 262] == b"ustar"]


def damage(
    folder: Path, times: int, least: float, change: Callable[[bytearray], object]
) -> Outcome:
    """Damage a copy of the shard so many times, and read what is left.

    Args:
        least: share of the pairs that must be whole every time.
        change: damages the archive in place and returns nothing, or the share expected instead.
    """
    path, shares, unsaid, changed = folder / "a.tar", [], 0, 0
    for _ in range(times):
        raw = bytearray(thousand())
        expected = change(raw)
        path.write_bytes(raw)
        read = ReadBack(path, range(PAIRS))
        shares.append(len(read.whole) / PAIRS)
        assert shares[-1] >= (least if expected is None else expected), read.told
        lost = PAIRS - len(read.whole)
        # What is lost is told; what is changed without a word cannot be more than was touched.
        assert lost <= len(read.changed) or read.told, "lost without a word"
        unsaid += bool(lost and not read.told)
        changed += len(read.changed)
    text = f"{min(shares):.1%} or more of {PAIRS:,} pairs are whole, {sum(shares) / times:.2%} on "
    text += "average; losses are counted"
    if changed:
        text += f", but for {changed} pictures or captions that are valid all the same ({unsaid} "
        text += "injections of which nothing was said)"
    return Outcome(times, text)


@fault("one 512-byte block garbled, anywhere in a shard of 1,000 pairs", short=1, long=300)
def one_block(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Garble one block of the archive."""

    def change(raw: bytearray) -> None:
        at = draw.randrange((len(raw) - DATA_BLOCK) // BLOCK) * BLOCK
        raw[at : at + BLOCK] = draw.randbytes(BLOCK)

    return damage(folder, times, 0.999, change)


@fault("the same block, read by webdataset's own reader", short=0, long=100)
def one_block_elsewhere(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Garble one block and let webdataset read what is left, telling it to go on at errors."""
    python = os.environ.get("BIFOCAL_PEERS")
    if not python:
        raise Skipped("set BIFOCAL_PEERS to a Python with webdataset")
    paths = [folder / f"{n}.tar" for n in range(times)]
    (folder / "whole").write_bytes(thousand())
    for path in paths:
        raw = bytearray(thousand())
        at = draw.randrange((len(raw) - DATA_BLOCK) // BLOCK) * BLOCK
        raw[at : at + BLOCK] = draw.randbytes(BLOCK)
        path.write_bytes(raw)
    reader = Path(__file__).with_name("webdataset_reader.py")
    done = subprocess.run(
        [python, reader, folder / "whole", *paths], capture_output=True, text=True, check=True
    )
    shares = [count / PAIRS for count in json.loads(done.stdout.splitlines()[-1])]
    few = sum(share < 0.99 for share in shares)
    return Outcome(
        times,
        f"for comparison: {sum(shares) / times:.1%} of the pairs on average, {min(shares):.1%} at "
        f"worst; fewer than 99% in {few} of {times}",
    )


@fault("one header garbled", short=1, long=100)
def one_header(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Garble some bytes of a header."""

    def change(raw: bytearray) -> None:
        at = draw.choice(headers()) + draw.randrange(400)
        raw[at : at + 64] = draw.randbytes(64)

    return damage(folder, times, 0.999, change)


@fault("a hole of zeros over 1 to 64 blocks", short=1, long=100)
def hole(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Erase blocks in a row."""

    def change(raw: bytearray) -> float:
        blocks = draw.randint(1, 64)
        at = draw.randrange(len(raw) // BLOCK - 64) * BLOCK
        raw[at : at + blocks * BLOCK] = bytes(blocks * BLOCK)
        return 1 - (blocks / 4 + 3) / PAIRS  # a pair has at least four blocks

    return damage(folder, times, 0.0, change)


@fault("the shard cut off at any byte", short=1, long=100)
def cut(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Cut the archive off; what lies wholly before is whole."""
    starts = headers()[::2]
    path, whole = folder / "a.tar", 0
    for _ in range(times):
        at = draw.randrange(starts[10], len(thousand()) - DATA_BLOCK)
        path.write_bytes(thousand()[:at])
        read = ReadBack(path, range(PAIRS))
        before = sum(start <= at for start in starts) - 1
        assert len(read.whole) >= before, (len(read.whole), before)
        assert len(read.whole) <= before + 1
        assert not read.changed
        assert read.told
        whole += before
    return Outcome(times, "every pair before the cut is whole, and the cut is told")


@fault("keys that occur twice, next to each other or apart", short=1, long=50)
def twice(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Repeat a pair under its name with another's picture and caption."""
    path = folder / "a.tar"
    for _ in range(times):
        members = [one for n in range(50) for one in pair(n)]
        victim, other = draw.sample(range(50), 2)
        again = list(zip([name for name, _ in pair(victim)], [d for _, d in pair(other)]))  # noqa: B905
        at = draw.randrange(2 * victim + 2, len(members) + 1)
        path.write_bytes(archive(members[:at] + again + members[at:]))
        read = ReadBack(path, range(50))
        assert read.whole >= {f"{n:06d}" for n in range(50)}, read.told
        assert not read.changed
        assert read.told["name that occurs twice"], read.told
    return Outcome(times, "the first pair counts; *name that occurs twice* is told")


@fault("pictures and captions of the same name apart from each other", short=1, long=50)
def apart(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Shuffle the members of an archive."""
    path = folder / "a.tar"
    for _ in range(times):
        members = [one for n in range(50) for one in pair(n)]
        draw.shuffle(members)
        path.write_bytes(archive(members))
        read = ReadBack(path, range(50))
        assert len(read.whole) == 50, read.told
        assert not read.changed
    return Outcome(times, "all pairs are whole")


@fault("half samples: a picture or a caption alone", short=1, long=50)
def halves(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Leave members out."""
    path, gone = folder / "a.tar", 0
    for _ in range(times):
        lost = set(draw.sample(range(100), draw.randint(1, 20)))
        members = [one for n in range(50) for one in pair(n)]
        path.write_bytes(archive(one for n, one in enumerate(members) if n not in lost))
        read = ReadBack(path, range(50))
        halved = {n // 2 for n in lost if n ^ 1 not in lost}
        assert len(read.whole) == 50 - len({n // 2 for n in lost})
        told = read.told["picture without caption"] + read.told["caption without picture"]
        assert told == len(halved), read.told
        gone += len(halved)
    return Outcome(gone, "the others are whole; each half is counted by its kind")


@fault("bytes of one picture garbled, 64 in a row", short=1, long=100)
def one_picture(folder: Path, draw: random.Random, times: int) -> Outcome:
    """Garble JPEG data; there is no checksum that could always tell."""

    def change(raw: bytearray) -> None:
        at = draw.choice(headers()[::2]) + BLOCK
        size = len(picture(0))
        at += draw.randrange(size - 100)
        raw[at : at + 64] = draw.randbytes(64)

    return damage(folder, times, 0.999, change)
