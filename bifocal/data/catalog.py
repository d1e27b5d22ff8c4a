"""What is known of many shards without opening them, and their indexes when asked for.

Each shard is read once; its index is kept in a file, and one manifest a folder says how many
samples each shard has and what their digest is. With both in place, opening costs one `stat` a
shard and memory of a few hundred bytes a shard, however many samples there are. An index that is
stale or damaged is made again. A manifest that came to a store with the shards saves fetching them
all to count their samples. Knows shards as wholes; knows nothing of captions or pictures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bifocal.data.archives import Archives, Folders
from bifocal.data.index import KNOWN, Index, Stamp, build
from bifocal.data.indexing import Entry, enter_all, load
from bifocal.data.shelf import BESIDE
from bifocal.errors import DataError

MANIFEST = "manifest.json"
VERSION = "bifocal.manifest/1"
TOLD = 10**9
"""Bytes from which a user is told why nothing happens for a while."""
_log = logging.getLogger(__name__)


class Catalog:
    """The shards of a source, in order.

    Args:
        paths: the shards.
        archives: where they are.

    Attributes:
        entries: one a shard.

    Raises:
        DataError: a shard cannot be read.
    """

    def __init__(self, paths: Sequence[Path], archives: Archives | None = None) -> None:
        self._paths = tuple(paths)
        self._archives = archives or Folders()
        folders = {path.parent for path in paths}
        self._shelves = {folder: self._archives.shelf(folder) for folder in folders}
        known = {folder: _entries(shelf.read(MANIFEST)) for folder, shelf in self._shelves.items()}
        entries: dict[Path, Entry] = {}
        states = dict(zip(self._paths, self._archives.stamps(self._paths), strict=True))
        for path, now in states.items():
            entry = known[path.parent].get(path.name)
            if entry is not None and entry.stamp == now:
                entries[path] = entry
        entries |= self._told_beside({p: now for p, now in states.items() if p not in entries})
        missing = [path for path in states if path not in entries]
        self._announce(states, missing)
        # Processes that begin together begin at different shards, and find each other's work.
        turn = os.getpid() * 7919 % max(1, len(missing))
        made = enter_all(missing[turn:] + missing[:turn], self._shelves, self._archives)
        entries |= {path: found.entry for path, found in made.items()}
        self.entries = [entries[path] for path in self._paths]
        self._unkept = {
            path: found.unkept for path, found in made.items() if found.unkept is not None
        }
        kept = [path for path in missing if made[path].is_kept]
        for path in kept:
            known[path.parent][path.name] = entries[path]
        for folder in {path.parent for path in kept}:
            self._shelves[folder].write(MANIFEST, manifest_bytes(known[folder]))

    def index(self, shard: int) -> Index:
        """Return the index of a shard.

        Raises:
            DataError: the shard cannot be read, or has changed since the catalog was made.
        """
        path, entry = self._paths[shard], self.entries[shard]
        found = self._unkept.get(path)
        if found is None:
            shelf = self._shelves[path.parent]
            found, is_kept = load(path, entry.stamp, shelf, self._archives)
            if not is_kept:
                self._unkept[path] = found
        if found.digest != entry.digest:
            raise DataError("shard is not the one that its manifest tells of")
        return found

    def _told_beside(self, states: Mapping[Path, Stamp]) -> dict[Path, Entry]:
        """Return what manifests in a store tell of shards of the same size.

        They were made where the shards were, so their times are not the store's. What they say is
        held to a shard when it is read, as its index is made of what was fetched; until then it is
        believed for this catalog alone, and not kept.

        Raises:
            DataError: the store does not answer.
        """
        name = f"{BESIDE}/{MANIFEST}"
        found = {
            folder: self._archives.beside(folder, name) for folder in {p.parent for p in states}
        }
        told = {folder: _entries([data] if data else []) for folder, data in found.items()}
        return {
            path: entry._replace(stamp=now)
            for path, now in states.items()
            if (entry := told[path.parent].get(path.name)) and entry.stamp.size == now.size
        }

    def _announce(self, states: Mapping[Path, Stamp], missing: Sequence[Path]) -> None:
        size = sum(states[path].size for path in missing)
        if size > TOLD and not self._archives.are_files:
            _log.warning(
                "%d shards, %.1f GB, are fetched to learn what is in them; this is done once",
                len(missing),
                size / 1e9,
            )

    @property
    def losses(self) -> Counter[tuple[str, str]]:
        """What could not be used, by shard and reason."""
        return _losses(self._paths, self.entries)


class Scanned:
    """The same of shards whose arrays are labels: their indexes are made now, and kept nowhere.

    Sets of pictures of several classes are for evaluation, and small enough to be scanned whenever
    they are opened; what is kept of shards then means the same for all who read them.

    Args:
        paths: the shards.
        archives: where they are.

    Attributes:
        entries: one a shard.

    Raises:
        DataError: a shard cannot be read.
    """

    def __init__(self, paths: Sequence[Path], archives: Archives | None = None) -> None:
        archives = archives or Folders()
        stamps = archives.stamps(paths)
        opened = (archives.open(path, now) for path, now in zip(paths, stamps, strict=True))
        self._indexes = [build(reader.path, KNOWN) for reader in opened]
        self.entries = [
            Entry(now, len(index), index.digest, index.losses)
            for now, index in zip(stamps, self._indexes, strict=True)
        ]
        self.losses = _losses(paths, self.entries)

    def index(self, shard: int) -> Index:
        """Return the index of a shard."""
        return self._indexes[shard]


def _losses(paths: Sequence[Path], entries: Sequence[Entry]) -> Counter[tuple[str, str]]:
    """Return what could not be used, by shard and reason."""
    return Counter(
        {
            (path.name, reason): count
            for path, entry in zip(paths, entries, strict=True)
            for reason, count in entry.losses.items()
        }
    )


def manifest_bytes(entries: Mapping[str, Entry]) -> bytes:
    """Return the manifest of shards by name: a line of version and checksum, then JSON."""
    values = entries.values()
    table = {
        "names": list(entries),
        "sizes": [entry.stamp.size for entry in values],
        "mtimes": [entry.stamp.mtime_ns for entry in values],
        "samples": [entry.samples for entry in values],
        "digests": [entry.digest for entry in values],
        "losses": {name: entry.losses for name, entry in entries.items() if entry.losses},
    }
    body = json.dumps(table).encode()
    return f"{VERSION} {_checksum(body)}\n".encode() + body


def _entries(manifests: Iterable[bytes]) -> dict[str, Entry]:
    """Return the newest entry of each shard by name, from manifests that are whole."""
    entries: dict[str, Entry] = {}
    for data in manifests:
        head, _, body = data.partition(b"\n")
        if head != f"{VERSION} {_checksum(body)}".encode():
            continue
        table = json.loads(body)
        columns = (table[key] for key in ("names", "sizes", "mtimes", "samples", "digests"))
        for name, size, mtime, samples, digest in zip(*columns, strict=True):
            losses = table["losses"].get(name, {})
            entry = Entry(Stamp(size, mtime), samples, digest, losses)
            if name not in entries or entries[name].stamp.mtime_ns < mtime:
                entries[name] = entry
    return entries


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
