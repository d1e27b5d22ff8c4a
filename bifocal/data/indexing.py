"""Indexes made, kept and found again: of one shard, and of many by several processes.

Walking headers is Python's work, so threads only hide the disk's delays; where many shards are to
be read, new interpreters share them. Knows indexes and shelves; knows nothing of manifests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bifocal.data.archives import THREADS, Archives, Folders
from bifocal.data.index import Index, Stamp, build, from_bytes, to_bytes
from bifocal.data.shelf import Shelf
from bifocal.errors import BifocalError, DataError

MANY = 256
"""Shards from which the seconds that an interpreter takes to start are worth it."""
PROCESSES = 32
_WORKER = "from bifocal.data.indexing import work; work()"


class Entry(NamedTuple):
    """What is known of a shard without its index."""

    stamp: Stamp
    samples: int
    digest: str
    losses: Mapping[str, int]


class Entered(NamedTuple):
    """An entry, whether its index is kept, and that which is not where this process has it."""

    entry: Entry
    is_kept: bool
    unkept: Index | None


def enter(path: Path, shelf: Shelf, archives: Archives) -> Entered:
    """Return the entry of a shard; its index is made and kept unless it is there.

    Raises:
        DataError: the shard cannot be read.
    """
    now = archives.stamp(path)
    found, is_kept = load(path, now, shelf, archives)
    entry = Entry(now, len(found), found.digest, found.losses)
    return Entered(entry, is_kept, None if is_kept else found)


def load(path: Path, now: Stamp, shelf: Shelf, archives: Archives) -> tuple[Index, bool]:
    """Return the index of a shard in the state `now`, and whether it is kept on the shelf.

    Raises:
        DataError: the shard cannot be read.
    """
    found = _kept(path, now, shelf)
    if found is not None:
        return found, True
    reader = archives.open(path, now)  # which keeps it there
    found = build(reader.path)
    settled = archives.is_settled(path, now)
    return found, settled and shelf.write(index_name(path), to_bytes(found, now))


def enter_all(
    paths: Sequence[Path], shelves: Mapping[Path, Shelf], archives: Archives
) -> dict[Path, Entered]:
    """Return the entries of many shards.

    Raises:
        DataError: a shard cannot be read.
    """
    entries = _by_processes(paths) if archives.are_files and len(paths) >= MANY else {}
    left = [path for path in paths if path not in entries]
    with ThreadPoolExecutor(min(THREADS, archives.most_open), thread_name_prefix="index") as pool:
        made = [pool.submit(enter, path, shelves[path.parent], archives) for path in left]
        try:
            return entries | {path: one.result() for path, one in zip(left, made, strict=True)}
        except BifocalError:
            pool.shutdown(cancel_futures=True)
            raise


def work() -> None:
    """Enter the shards that the standard input names; tell each as a line of JSON."""
    paths = [Path(os.fsdecode(name)) for name in sys.stdin.buffer.read().split(b"\0") if name]
    folders = Folders()
    shelves = {folder: folders.shelf(folder) for folder in {path.parent for path in paths}}
    for n, path in enumerate(paths):
        try:
            found = enter(path, shelves[path.parent], folders)
        except DataError:
            continue  # whoever reads the answers meets it again, and says so
        print(json.dumps([n, found.is_kept, *found.entry]), flush=True)


def index_name(path: Path) -> str:
    """Return the name of the file that holds a shard's index."""
    return f"{path.name}.index"


def _kept(path: Path, now: Stamp, shelf: Shelf) -> Index | None:
    for data in shelf.read(index_name(path)):
        try:
            found, of = from_bytes(data)
        except DataError:
            continue
        if of == now:
            return found
    return None


def _by_processes(paths: Sequence[Path]) -> dict[Path, Entered]:
    """Return the entries that processes of their own could make; what fails is left out."""
    count = min(PROCESSES, os.cpu_count() or 1, len(paths) // 16)
    shares = [paths[n::count] for n in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return {path: entry for found in pool.map(_share, shares) for path, entry in found}


def _share(paths: Sequence[Path]) -> list[tuple[Path, Entered]]:
    names = b"\0".join(os.fsencode(path.absolute()) for path in paths)
    command = [sys.executable, "-c", _WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        told, _ = process.communicate(names)
    entries = []
    for line in told.splitlines():
        n, is_kept, of, *rest = json.loads(line)
        entries.append((paths[n], Entered(Entry(Stamp(*of), *rest), is_kept, None)))
    return entries
