"""Where the archives of a source are, and how they are opened there: in folders, or elsewhere."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

from bifocal.data.archive import Reader
from bifocal.data.index import Stamp, stamp
from bifocal.data.shelf import Shelf
from bifocal.errors import DataError

THREADS = 16
SPAN = 256
"""Archives that one thread looks at in one go."""
OPEN_FILES = 256
SETTLED_NS = 2_000_000_000
"""Age from which a shard's time of change tells its states apart: file systems' clocks tick, and a
younger one may yet be rewritten within a tick."""


@runtime_checkable
class Archives(Protocol):
    """Archives by path.

    Attributes:
        are_files: whether any process finds them at their paths.
        most_open: how many may be held open.
    """

    are_files: bool
    most_open: int

    def stamp(self, path: Path) -> Stamp:
        """Return the state that an archive is in.

        Raises:
            DataError: it is not there.
        """
        ...

    def stamps(self, paths: Sequence[Path]) -> list[Stamp]:
        """Return the states of many.

        Raises:
            DataError: one is not there.
        """
        ...

    def shelf(self, folder: Path) -> Shelf:
        """Return where files about a folder's archives are kept."""
        ...

    def beside(self, folder: Path, name: str) -> bytes | None:
        """Return a small file that came to where a folder's archives are together with them.

        Raises:
            DataError: what holds them does not answer.
        """
        ...

    def open(self, path: Path, now: Stamp) -> Reader:
        """Return a reader of an archive in the state `now`, whose path is that of a local file.

        Raises:
            DataError: it cannot be opened, or is in another state.
        """
        ...

    def is_settled(self, path: Path, now: Stamp) -> bool:
        """Return whether the state of an archive tells its content."""
        ...

    def expect(self, paths: Sequence[Path]) -> None:
        """Be told which archives are read next, in order."""
        ...


class Folders:
    """Archives that are files on this machine."""

    are_files = True

    def __init__(self) -> None:
        # Others need files too; where the limit is the usual 1,024, all of OPEN_FILES may be open.
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = allowed == resource.RLIM_INFINITY
        self.most_open = OPEN_FILES if unlimited else max(1, min(OPEN_FILES, allowed // 4))

    def stamp(self, path: Path) -> Stamp:
        """Return the state that an archive is in."""
        return stamp(path)

    def stamps(self, paths: Sequence[Path]) -> list[Stamp]:
        """Return the states of many, asked for by several threads."""
        spans = [paths[n : n + SPAN] for n in range(0, len(paths), SPAN)]
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda span: [stamp(path) for path in span], spans)
            return [one for some in found for one in some]

    def shelf(self, folder: Path) -> Shelf:
        """Return a shelf beside the archives, or in the user's cache."""
        return Shelf(folder)

    def beside(self, folder: Path, name: str) -> bytes | None:
        """Return nothing: files are cheap to look into, and copying them changes their times."""
        return None

    def open(self, path: Path, now: Stamp) -> Reader:
        """Return a reader of an archive in the state `now`."""
        reader = Reader(path)
        if (reader.size, reader.mtime_ns) != now:
            raise DataError("shard changed while in use")
        return reader

    def is_settled(self, path: Path, now: Stamp) -> bool:
        """Return whether the file has rested for longer than a clock's tick."""
        return time.time_ns() - now.mtime_ns > SETTLED_NS and stamp(path) == now

    def expect(self, paths: Sequence[Path]) -> None:
        """Leave reading ahead to the operating system."""
