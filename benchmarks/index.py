"""What it costs to open, and to resume in, data of 400 million pairs in 40,000 shards.

    python -m benchmarks.index [--shards 40000] [--samples 10000]

The shards are empty files of the right length (they take no room on a file system that knows
holes) with a manifest as `Catalog` writes it; the shards that the resumed batch reads have indexes
as long as real ones. Opening and resuming run in a process of their own, whose peak memory is told
beside that of the imports alone. The same for shards in a store, listed from fsspec's memory://
and known by the manifest in the cache, and for a mixture of both halves of them. Then one real
shard is indexed, beside Python's `tarfile`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from bifocal.data.catalog import MANIFEST, manifest_bytes
from bifocal.data.index import Index, build, from_bytes, stamp, to_bytes
from bifocal.data.indexing import Entry, index_name
from bifocal.data.pairing import SUFFIXES
from bifocal.data.shelf import BESIDE, write_atomically

SHARD_BYTES = 400_000_000
HOUR_AGO = 3600
BATCH = 32_768

CHILD = """
import json, resource, sys, time
from pathlib import Path
from bifocal.data.captions import CaptionReader
from bifocal.data.plan import Plan
from bifocal.data.shards import ShardSource

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

found = {"imports, MB": peak()}
start = time.perf_counter()
source = ShardSource(sorted(Path(sys.argv[1]).glob("*.tar")), CaptionReader())
found["open, s"] = time.perf_counter() - start
found["open, MB"] = peak()
plan = Plan(source, 0)
position = int(sys.argv[2])
start = time.perf_counter()
first = plan.index(position)
found["first position, s"] = time.perf_counter() - start
start = time.perf_counter()
indices = [plan.index(position + n) for n in range(int(sys.argv[3]))]
found["a batch of positions, s"] = time.perf_counter() - start
found["samples"] = len(source)
found["plan, MB"] = peak()
if sys.argv[4] == "find":
    start = time.perf_counter()
    for index in indices:
        source._find(index)
    found["a batch of places, s"] = time.perf_counter() - start
    found["places, MB"] = peak()
shards = sorted({source.place(index) for index in indices})
print(json.dumps([found, shards]))
"""


STORED = """
import json, resource, sys, time
from pathlib import Path
import fsspec
from bifocal.data.catalog import MANIFEST, manifest_bytes
from bifocal.data.indexing import Entry
from bifocal.data.mixed_plan import plan_of
from bifocal.data.patience import Patience
from bifocal.data.remote import Fetched
from bifocal.data.sources import Reading, Weighted, open_source
from bifocal.data.store import Store

folder, shards, samples, position, batch = sys.argv[1], *map(int, sys.argv[2:])
memory = fsspec.filesystem("memory")
halves = ["memory://one/*.tar", "memory://two/*.tar"]
for n in range(shards):
    memory.pipe_file(f"/{('one', 'two')[2 * n // shards]}/{n:06d}.tar", b"x")
for url in halves:
    store = Store(url, Patience())
    listed = store.find(url)
    entries = {one.path.name: Entry(one.stamp, samples, f"{url}", {}) for one in listed}
    shelf = Fetched(listed, store, Path(folder), 10**9).shelf(listed[0].path.parent)
    shelf.write(MANIFEST, manifest_bytes(entries))
    memory.invalidate_cache()
reading = Reading(cache_dir=folder)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
found = {}
start = time.perf_counter()
source = open_source([Weighted(path=url, weight=w + 1) for w, url in enumerate(halves)], reading)
found["open, s"] = time.perf_counter() - start
for part in source.sources:
    part.expect = lambda shards: None  # the shards are only names
plan = plan_of(source, 0)
start = time.perf_counter()
plan.index(position)
found["first position, s"] = time.perf_counter() - start
start = time.perf_counter()
for n in range(batch):
    plan.index(position + n)
found["a batch of positions, s"] = time.perf_counter() - start
found["more than listing, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - base
print(json.dumps([len(source), found]))
"""


def synthetic_index(samples: int) -> Index:
    """Return an index as webdatasets have it: nine digits, three parts a sample."""
    suffixes = [SUFFIXES.index(suffix) for suffix in ("jpg", "json", "txt")]
    parts = 3 * samples
    return Index(
        keys=b"".join(b"%09d" % n for n in range(samples)),
        key_ends=np.arange(1, samples + 1, dtype="<u4") * np.uint32(9),
        part_ends=np.arange(1, samples + 1, dtype="<u4") * np.uint32(3),
        suffixes=np.tile(np.array(suffixes, dtype=np.uint8), samples),
        sizes=np.full(parts, 30_000, dtype="<u4"),
        offsets=np.arange(parts, dtype="<i8") * (SHARD_BYTES // parts),
        losses={},
    )


def make_shards(folder: Path, shards: int, samples: int) -> None:
    """Write empty shards and their manifest."""
    entries = {}
    now = time.time() - HOUR_AGO
    digest = synthetic_index(samples).digest
    for n in range(shards):
        path = folder / f"{n:06d}.tar"
        with path.open("wb") as file:
            file.truncate(SHARD_BYTES)
        os.utime(path, (now, now))
        entries[path.name] = Entry(stamp(path), samples, digest, {})
    write_atomically(folder / BESIDE / MANIFEST, manifest_bytes(entries))


def resume(folder: Path, position: int, then: str) -> tuple[dict[str, float], list[str]]:
    """Open and resume in a new process."""
    command = [sys.executable, "-c", CHILD, str(folder), str(position), str(BATCH), then]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout))


def large(shards: int, samples: int) -> None:
    """Print what opening and resuming cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_shards(folder, shards, samples)
        position = shards * samples * 7 // 10 + 12_345
        _, read = resume(folder, position, "plan")
        index = synthetic_index(samples)
        for shard in read:
            data = to_bytes(index, stamp(folder / shard))
            write_atomically(folder / BESIDE / index_name(folder / shard), data)
        found, _ = resume(folder, position, "find")
        manifest = (folder / BESIDE / MANIFEST).stat().st_size
        print(f"{found.pop('samples'):,} samples, {shards:,} shards; resumed at {position:,}")
        for what, value in found.items():
            print(f"  {what:<26}{value:>10.3f}")
        print(f"  {'manifest, MB':<26}{manifest / 1e6:>10.3f}")
        print(f"  {'index, bytes a sample':<26}{len(data) / samples:>10.1f}")
        start = time.perf_counter()
        from_bytes(data)
        print(f"  {'index, s to load':<26}{time.perf_counter() - start:>10.4f}")
        print(f"  batch of {BATCH:,} lies in {len(read)} shards")


def stored(shards: int, samples: int) -> None:
    """Print what opening and resuming cost where the shards are in a store, and are mixed."""
    with tempfile.TemporaryDirectory() as name:
        position = shards * samples * 7 // 10 + 12_345
        numbers = map(str, (shards, samples, position, BATCH))
        command = [sys.executable, "-c", STORED, name, *numbers]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    length, found = json.loads(done.stdout)
    print(f"{length:,} samples in a store, a mixture of two halves; resumed at {position:,}")
    for what, value in found.items():
        print(f"  {what:<26}{value:>10.3f}")


def real(samples: int) -> None:
    """Print what one shard costs to index, beside tarfile."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tar"
        with tarfile.open(path, "w") as archive:
            for n in range(samples):
                for suffix, size in (("jpg", 4000), ("json", 300), ("txt", 60)):
                    header = tarfile.TarInfo(f"{n:09d}.{suffix}")
                    header.size = size
                    archive.addfile(header, io.BytesIO(bytes(size)))
        start = time.perf_counter()
        assert len(build(path)) == samples
        ours = time.perf_counter() - start
        start = time.perf_counter()
        with tarfile.open(path) as archive:
            assert len(archive.getmembers()) == 3 * samples
        theirs = time.perf_counter() - start
        print(f"one shard of {samples:,}: indexed in {ours:.2f} s, tarfile's list {theirs:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=40_000)
    parser.add_argument("--samples", type=int, default=10_000, help="a shard")
    options = parser.parse_args()
    large(options.shards, options.samples)
    stored(options.shards, options.samples)
    real(options.samples)


if __name__ == "__main__":
    main()
