"""The bytes of an archive, by offset, from any number of threads.

Knows a file that may vanish, change or fail for a moment; knows nothing of its format.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import NamedTuple

from bifocal.errors import DataError


class Member(NamedTuple):
    """One file in an archive: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


class Reader:
    """Reads an archive by `pread`.

    A read that fails is tried once more on the file opened anew: network file systems forget
    files that are still there.

    Attributes:
        size: bytes of the file.
        mtime_ns: when it changed last.

    Raises:
        DataError: the archive cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_held = False
        self._file, status = _open(path)
        self.size, self.mtime_ns = status.st_size, status.st_mtime_ns

    def hold(self) -> bool:
        """Lock the file, shared, while this reader lives; return whether it is there to stay."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_held = True
        return os.fstat(self._file).st_nlink > 0

    def read(self, member: Member) -> bytes:
        """Return the bytes of a member.

        Raises:
            DataError: the file ends before the member does, or the disk fails.
        """
        try:
            data = self._pread(member.size, member.offset)
        except OSError:
            raise DataError("unreadable shard") from None
        if len(data) != member.size:
            raise DataError("shard shorter than its index")
        return data

    def at(self, offset: int, size: int) -> bytes:
        """Return the bytes at an offset, fewer at the end.

        Raises:
            DataError: the disk fails.
        """
        try:
            return self._pread(size, offset)
        except OSError as error:
            raise DataError(f"cannot read the shard {self.path}: {error.strerror}") from None

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._file, size, offset)
        except OSError:
            self._open_anew()
        return os.pread(self._file, size, offset)

    def _open_anew(self) -> None:
        file, status = _open(self.path)
        try:
            if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
                raise DataError("shard changed while in use")
            if self._is_held:
                fcntl.flock(file, fcntl.LOCK_SH)
            os.dup2(file, self._file, inheritable=False)  # other threads keep their number
        finally:
            os.close(file)

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            os.close(self._file)


def _open(path: Path) -> tuple[int, os.stat_result]:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot open the shard {path}: {error.strerror}") from None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise DataError(f"cannot open the shard {path}: it is not a file")
    return file, status
