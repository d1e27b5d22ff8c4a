"""Locks that the kernel holds (`flock`): they go with the process that held them, even killed.

A lock belongs to one opening of its file, so that two in one process exclude each other too.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bifocal.errors import CheckpointError


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file for the length of the block.

    Args:
        path: of the file, which is made if need be and stays.
        wait: for whoever holds it; else the block is told whether the lock was free.

    Raises:
        CheckpointError: the file cannot be made.
    """
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class JournalLock:
    """The lock of Optuna's journal, in place of its own, whose file outlives a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[IO[bytes]] = []

    def acquire(self) -> bool:
        """Wait for the lock."""
        file = _opened(self._path)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held.append(file)
        return True

    def release(self) -> None:
        """Give it to the next."""
        self._held.pop().close()


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from None
