"""Pairs a second out of tar shards, nothing decoded: bifocal beside webdataset, in one process.

    PEERS/bin/python -m benchmarks.tar_reading [--samples 2000] [--rounds 7]

Shards hold pictures of 2, 8, 32 or 90 kB (random bytes, which reading does not notice) beside a
caption; all is in the system's cache. What is timed, each in turn, as processor time of one thread:

    webdataset     `tarfile_to_samples` and the caption decoded: key, picture's bytes, text, in the
                   order of the archive, as it knows no other
    read           `ShardSource.read`: the same, the caption checked too; in the order of the
                   archive, and at random, as training reads
    pread alone    one call a member, with the places known beforehand: the least that reading
                   each member by itself costs
    pieces alone   the archive in pieces of 256 kB, every member copied out of them: the least that
                   any reader costs which copies what it reads

Making the index happens once in the life of a shard, and opening a source once a run: both are
told apart.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import webdataset

from benchmarks.picture_shards import write_shards
from bifocal.data.captions import CaptionReader
from bifocal.data.index import Index, build
from bifocal.data.shards import ShardSource

SIZES = (2_000, 8_000, 32_000, 90_000)
CAPTION = b"a brown dog runs along the beach with a stick in its mouth"
PIECE = 1 << 18


def main() -> None:
    """Print a table a size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            draw = random.Random(size)
            pairs = [(draw.randbytes(size), CAPTION) for _ in range(options.samples)]
            (path,) = write_shards(Path(name) / str(size), pairs, options.samples, 1)
            os.utime(path, (0, 0))  # the index of a shard that has just changed is not kept
            compare(path, size, options)
            path.unlink()


def compare(path: Path, size: int, options: argparse.Namespace) -> None:
    """Print the cost of a pair in every way of reading, and the ratio to webdataset's."""
    in_order = range(options.samples)
    at_random = random.Random(0).sample(in_order, options.samples)
    indexing = cost(lambda: len(build(path)))
    source = ShardSource([path], CaptionReader())  # leaves the index beside the shard
    opening = cost(lambda: len(ShardSource([path], CaptionReader())))
    index = build(path)
    ways: dict[str, Callable[[], int]] = {
        "webdataset": lambda: by_webdataset(path),
        "read, in order": lambda: by_bifocal(source, in_order),
        "read, at random": lambda: by_bifocal(source, at_random),
        "pread alone, in order": lambda: pread_alone(path, index, in_order),
        "pread alone, at random": lambda: pread_alone(path, index, at_random),
        "pieces alone, in order": lambda: pieces_alone(path, index),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            costs[name].append(cost(way))
    print(f"pictures of {size // 1000} kB, {options.samples} pairs, {options.rounds} rounds")
    theirs = statistics.median(costs["webdataset"])
    for name, times in costs.items():
        ours = statistics.median(times)
        print(f"  {name:<24}{ours:8.2f} us a pair {1e6 / ours:12,.0f}/s {theirs / ours:7.1f}x")
    opened = opening * options.samples / 1000
    print(f"  once: indexing {indexing:.1f} us a pair; opening {opened:.1f} ms", flush=True)


def cost(way: Callable[[], int]) -> float:
    """Return the microseconds of processor time that a pair takes."""
    began = time.process_time()
    pairs = way()
    return (time.process_time() - began) / pairs * 1e6


def by_webdataset(path: Path) -> int:
    """Read every pair in the order of the archive."""
    shards = webdataset.SimpleShardList([str(path)])
    count = 0
    for sample in webdataset.DataPipeline(shards, webdataset.tarfile_to_samples()):
        key, picture, text = sample["__key__"], sample["jpg"], sample["txt"].decode()
        count += bool(key and picture and text)
    return count


def by_bifocal(source: ShardSource, order: Sequence[int]) -> int:
    """Read every pair in an order."""
    count = 0
    for number in order:
        sample = source.read(number)
        count += bool(sample.key and sample.image and sample.captions[0])
    return count


def pread_alone(path: Path, index: Index, order: Sequence[int]) -> int:
    """Copy the bytes of every member, one call each."""
    places = list(zip(index.sizes.tolist(), index.offsets.tolist(), strict=True))
    file = os.open(path, os.O_RDONLY)
    for number in order:
        for size, offset in places[2 * number : 2 * number + 2]:
            os.pread(file, size, offset)
    os.close(file)
    return len(order)


def pieces_alone(path: Path, index: Index) -> int:
    """Copy the bytes of every member out of large pieces; one that two pieces share is cut."""
    starts, ends = index.offsets.tolist(), (index.offsets + index.sizes).tolist()
    file = os.open(path, os.O_RDONLY)
    piece = memoryview(bytearray(PIECE))
    first = end = 0
    for start, stop in zip(starts, ends, strict=True):
        if start >= end:
            first, end = start, start + os.preadv(file, [piece], start)
        bytes(piece[start - first : stop - first])
    os.close(file)
    return len(index)


if __name__ == "__main__":
    main()
