"""Shards fetched to the local disk: a bounded folder that any number of processes share.

A shard is written under another name, verified, and renamed, so what has a shard's name is whole.
Locks are the kernel's (`flock`), and go with the process that held them:

    STEM.tar     a shard; a shared lock by whoever reads it, so that it is not evicted
    STEM.part    empty; an exclusive lock by whoever fetches it, so that one does
    STEM.tmp…    what has come of it so far
    lock         an exclusive lock by whoever makes room

STEM ends with the shard's size, which is counted as taken from the moment its fetch begins. Knows
files and sizes; knows nothing of stores.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bifocal.data.archive import Reader
from bifocal.data.index import Stamp
from bifocal.errors import BifocalError, ConfigError, DataError, TrainingError

WHOLE, PART, DRAFT = ".tar", ".part", ".tmp"
_log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    used: float
    size: int
    path: Path


class ShardCache:
    """A folder of fetched shards.

    Args:
        folder: made if need be; must be on a disk that knows locks.
        limit: bytes that it may hold. When it is full, shards go that were opened longest ago;
            one that is in use stays, and where all are, the limit is passed with a warning.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self._failed: dict[Path, tuple[float, BifocalError]] = {}
        self._told = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked(folder / "lock"):
                pass
        except OSError as error:
            raise ConfigError(
                f"cannot keep shards in {folder}: {error.strerror}; set data.cache_dir"
            ) from None

    def path(self, name: str, of: Stamp) -> Path:
        """Return where the shard of a name, in the state `of`, is when it is there."""
        digest = hashlib.blake2b(f"{name}\n{of.mtime_ns}".encode(), digest_size=16).hexdigest()
        return self._folder / f"{digest}-{of.size}{WHOLE}"

    def open(self, path: Path, fetch: Callable[[Path], None]) -> Reader:
        """Return a reader of a shard, which is fetched if it is not there.

        Args:
            path: as the method of that name tells it.
            fetch: writes it whole to a path, or raises and leaves nothing.

        Raises:
            BifocalError: whatever `fetch` raises.
            TrainingError: the folder cannot be used any more.
        """
        while True:
            reader = _held(path)
            if reader is not None:
                return reader
            try:
                self._bring(path, fetch)
            except OSError as error:
                raise TrainingError(
                    f"cannot keep shards in {self._folder}: {error}; set data.cache_dir"
                ) from None

    def _bring(self, path: Path, fetch: Callable[[Path], None]) -> None:
        """Have the shard on the disk, fetched by this thread or by another."""
        began = time.monotonic()
        with self._locked(path.with_suffix(PART)) as part:
            if path.exists():
                part.unlink()
                return
            failed, error = self._failed.get(path, (0.0, None))
            if error is not None and failed > began:
                raise error  # another thread has just tried for as long as is worth while
            for left in self._folder.glob(f"{path.stem}{DRAFT}*"):
                left.unlink(missing_ok=True)
            with self._locked(self._folder / "lock"):
                self._make_room()
            try:
                fetch(path.with_suffix(DRAFT))
            except BaseException as error:
                if isinstance(error, BifocalError):
                    self._failed[path] = time.monotonic(), error
                part.unlink()
                raise
            with self._locked(self._folder / "lock"):  # who makes room finds one of the two
                path.with_suffix(DRAFT).replace(path)
                part.unlink()

    def _make_room(self) -> None:
        """Evict what was opened longest ago until all that is there or on its way fits."""
        kept, coming = self._contents()
        total = coming + sum(one.size for one in kept)
        for one in sorted(kept):
            if total <= self.limit:
                return
            if _evict(one.path):
                total -= one.size
        if total > self.limit and not self._told.is_set():
            self._told.set()
            _log.warning(
                "the shards in use take %.1f GB, more than the %.1f GB of data.cache_gb: "
                "raise it, or shards are fetched again and again",
                total / 1e9,
                self.limit / 1e9,
            )

    def _contents(self) -> tuple[list[_Kept], int]:
        """Return the shards, and the bytes of those on their way; clear what the dead left."""
        kept, coming = [], 0
        for entry in sorted(os.scandir(self._folder), key=_is_draft):
            path = Path(entry.path)
            with suppress(FileNotFoundError):
                if path.suffix == WHOLE:
                    status = entry.stat()
                    kept.append(_Kept(status.st_atime, status.st_size, path))
                elif path.suffix == PART and not _evict(path):
                    coming += _size(path)
                elif _is_draft(entry) and not _part_of(path).exists():
                    path.unlink()
        return kept, coming

    @contextmanager
    def _locked(self, path: Path) -> Iterator[Path]:
        while True:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Whoever held it before may have removed it: the lock is then on no file.
                if os.fstat(file).st_nlink:
                    yield path
                    return
            finally:
                os.close(file)


def _held(path: Path) -> Reader | None:
    """Return a reader that holds the shard against eviction, if it is there and whole."""
    try:
        reader = Reader(path)
    except DataError as error:
        if isinstance(error.__context__, FileNotFoundError):
            return None
        raise
    if not reader.hold():
        return None
    if reader.size != _size(path):
        path.unlink(missing_ok=True)
        return None
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), reader.mtime_ns))
    return reader


def _size(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _is_draft(entry: os.DirEntry[str]) -> bool:
    return DRAFT in entry.name


def _part_of(draft: Path) -> Path:
    return draft.with_name(draft.name.partition(DRAFT)[0] + PART)


def _evict(path: Path) -> bool:
    """Remove a file that nobody has locked; return whether it was removed."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another may have removed it meanwhile, and a third made a new one of that name.
        if os.fstat(file).st_nlink:
            path.unlink(missing_ok=True)
            return True
        return not path.exists()
    except BlockingIOError:
        return False
    finally:
        os.close(file)
