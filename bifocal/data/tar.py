"""Where the members of a tar archive lie, and their bytes.

Reads headers only, once, and finds the next good one by its checksum when a header is damaged, so
that a bad block costs the members it touches and no others. Knows nothing of samples.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bifocal.errors import DataError

BLOCK = 512
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
_ASIDE = (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)
"""Headers that may stand between a long name and its member."""
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
"""No data follow these, whatever size they give."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive: its name, and where its bytes lie."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """Yield the regular files of the archive that lie wholly in it, in order."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        position, long_name = 0, ""
        while position + BLOCK <= end:
            file.seek(position)
            header = _header(file.read(BLOCK))
            start = position + BLOCK
            if header is None:
                # Padding at the end, a hole or damage: headers lie on block boundaries.
                position, long_name = start, ""
                continue
            position = start + -(-header.size // BLOCK) * BLOCK
            if header.type in _LONG_NAME:
                long_name = _long_name(header.type, file.read(header.size))
            elif header.type not in _ASIDE:
                if header.isreg() and start + header.size <= end:
                    yield Member(long_name or header.name, start, header.size)
                long_name = ""


def _header(block: bytes) -> tarfile.TarInfo | None:
    """Return the header in a block, or None if there is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    if header.type in _WITHOUT_DATA:
        header.size = 0
    return header if header.size >= 0 else None


class Reader:
    """Reads members by `pread`, safe from any number of threads.

    Raises:
        DataError: the archive cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot open the shard {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise DataError(f"cannot open the shard {path}: it is not a file")

    def read(self, member: Member) -> bytes:
        """Return the bytes of a member.

        Raises:
            DataError: the file ends before the member does, or the disk fails.
        """
        try:
            data = os.pread(self._file, member.size, member.offset)
        except OSError:
            raise DataError("unreadable shard") from None
        if len(data) != member.size:
            raise DataError("shard shorter than its index")
        return data

    def __del__(self) -> None:
        if "_file" in self.__dict__:
            os.close(self._file)


def _long_name(kind: bytes, data: bytes) -> str:
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    for record in data.split(b"\n"):
        _, _, pair = record.partition(b" ")
        if pair.startswith(b"path="):
            return pair[5:].decode("utf-8", "surrogateescape")
    return ""
