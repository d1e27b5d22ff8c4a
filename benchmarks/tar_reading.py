"""Pairs a second out of tar shards, nothing decoded: bifocal beside webdataset, in one process.

    PEERS/bin/python -m benchmarks.tar_reading [--samples 2000] [--rounds 7]

Shards hold pictures of 8, 32 or 90 kB (random bytes, which reading does not notice) beside a
caption; all is in the system's cache. What is timed, each in turn, as processor time of one thread:

    webdataset     `tarfile_to_samples`: every member's bytes in the order of the archive
    members        the same bytes, by index and `pread`, in random order
    samples        what training asks for: the same, with the caption decoded and checked
    pread alone    the bytes with the places known beforehand: the least that copying them costs

The index of the shard is loaded in each round. Making it happens once in the life of a shard, and
opening a source once a run: both are told apart.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset

from benchmarks.picture_shards import write_shards
from bifocal.data.archive import Reader
from bifocal.data.captions import CaptionReader
from bifocal.data.catalog import Catalog
from bifocal.data.index import Index, build
from bifocal.data.shards import ShardSource

SIZES = (8_000, 32_000, 90_000)
CAPTION = b"a brown dog runs along the beach with a stick in its mouth"


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
            compare(path, size, options)


def compare(path: Path, size: int, options: argparse.Namespace) -> None:
    """Print the cost of a pair in every way of reading, and the ratio to webdataset's."""
    order = random.Random(0).sample(range(options.samples), options.samples)
    indexing = cost(lambda: len(build(path)))
    ShardSource([path], CaptionReader())  # leaves the index beside the shard
    opening = cost(lambda: len(ShardSource([path], CaptionReader())))
    source, catalog = ShardSource([path], CaptionReader()), Catalog([path])
    index = catalog.index(0)
    ways: dict[str, Callable[[], int]] = {
        "webdataset": lambda: by_webdataset(path),
        "members": lambda: members(catalog, path, order),
        "samples": lambda: samples(source, order),
        "pread alone": lambda: pread_alone(path, index),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            costs[name].append(cost(way))
    print(f"pictures of {size // 1000} kB, {options.samples} pairs, {options.rounds} rounds")
    theirs = statistics.median(costs["webdataset"])
    for name, times in costs.items():
        ours = statistics.median(times)
        print(f"  {name:<14}{ours:8.2f} us a pair {1e6 / ours:12,.0f}/s {theirs / ours:7.1f}x")
    opened = opening * options.samples / 1000
    print(f"  once: indexing {indexing:.1f} us a pair; opening {opened:.1f} ms", flush=True)


def cost(way: Callable[[], int]) -> float:
    """Return the microseconds of processor time that a pair takes."""
    began = time.process_time()
    pairs = way()
    return (time.process_time() - began) / pairs * 1e6


def by_webdataset(path: Path) -> int:
    """Read every member in the order of the archive."""
    shards = webdataset.SimpleShardList([str(path)])
    count = 0
    for sample in webdataset.DataPipeline(shards, webdataset.tarfile_to_samples()):
        count += len(sample["jpg"]) > 0 and len(sample["txt"]) > 0
    return count


def members(catalog: Catalog, path: Path, order: list[int]) -> int:
    """Read every member at random."""
    index, reader = catalog.index(0), Reader(path)
    for number in order:
        for member in index.sample(number)[1].values():
            reader.read(member)
    return len(order)


def samples(source: ShardSource, order: list[int]) -> int:
    """Read every sample at random, as training does."""
    for number in order:
        source.read(number)
    return len(order)


def pread_alone(path: Path, index: Index) -> int:
    """Copy the bytes of every member."""
    places = list(zip(index.sizes.tolist(), index.offsets.tolist(), strict=True))
    file = os.open(path, os.O_RDONLY)
    for size, offset in places:
        os.pread(file, size, offset)
    os.close(file)
    return len(index)


if __name__ == "__main__":
    main()
