"""A tar shard whose bytes depend on nothing but its samples, under its name only when whole.

Knows archives and names; knows nothing of where samples come from.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bifocal.curate.encoding import Packed
from bifocal.data.catalog import MANIFEST, manifest_bytes
from bifocal.data.index import build, stamp, to_bytes
from bifocal.data.indexing import Entry, index_name
from bifocal.data.shelf import Shelf


class ShardWriter:
    """One shard under way.

    Args:
        path: its name once it is finished; until then it has another.

    Attributes:
        samples: added so far.
        size: bytes of their files.

    Raises:
        OSError: the file cannot be written; so do the methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.tmp")
        self._file = self._unfinished.open("wb")
        self._archive = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by finish or abandon
        self._names: Counter[str] = Counter()
        self.samples = self.size = 0

    def add(self, packed: Packed) -> None:
        """Append the files of a sample; of equal ones the later get a number."""
        self._names[packed.name] += 1
        again = self._names[packed.name]
        name = packed.name if again == 1 else f"{packed.name}-{again}"
        for suffix, data in packed.files:
            # Owner, mode and time are those of TarInfo: the same wherever and whenever.
            header = tarfile.TarInfo(f"{name}.{suffix}")
            header.size = len(data)
            self._archive.addfile(header, io.BytesIO(data))
            self.size += len(data)
        self.samples += 1

    def finish(self) -> int:
        """Give the shard its name, on disk to the last byte; return its size in bytes."""
        self._archive.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        self._unfinished.replace(self._path)
        return size

    def abandon(self) -> None:
        """Remove what was written."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def keep_index(paths: Sequence[Path]) -> None:
    """Write the index of finished shards of one folder, so that opening them reads no header."""
    if not paths:
        return
    shelf = Shelf(paths[0].parent)
    entries: dict[str, Entry] = {}
    for path in paths:
        found, now = build(path), stamp(path)
        shelf.write(index_name(path), to_bytes(found, now))
        entries[path.name] = Entry(now, len(found), found.digest, found.losses)
    shelf.write(MANIFEST, manifest_bytes(entries))


def names(path: Path) -> list[str]:
    """Return the names of a shard's samples.

    Raises:
        DataError: it cannot be read.
    """
    found = build(path)
    return [found.sample(n)[0] for n in range(len(found))]
