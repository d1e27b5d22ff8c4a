"""One block of a tar archive as a header: ustar, GNU and pax (POSIX.1-2001), old V7.

Knows the fields of a header and of what may announce the next one; knows nothing of files.
"""

from __future__ import annotations

import itertools
import re
import tarfile
from dataclasses import dataclass

BLOCK = 512
MAX_NAME_DATA = 1 << 20
"""Longest body of a long name or pax header that is believed."""
MAX_SIZE = 1 << 62
MAGIC, MAGIC_AT = b"ustar", 257
_NUMBERS = (100, 108, 116, 124, 136, 148)
"""Where mode, owner, group, size and time begin, and the last ends."""
_BASE_256 = (0o200, 0o377)
_V7_END = bytes(BLOCK - MAGIC_AT)

_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_PAX_RECORD = re.compile(rb"(\d{1,19}) ([^=\0]+)=")
_SIZE = re.compile(rb"\d{1,18}")
_POSIX = b"ustar\0"
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_ASIDE = (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = frozenset(tarfile.SUPPORTED_TYPES) - {
    *tarfile.REGULAR_TYPES,
    *_PAX,
    *_ASIDE,
    tarfile.GNUTYPE_LONGNAME,
}
"""No data follow these, whatever size they give."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a block says of the bytes behind it.

    Attributes:
        kind: the type flag.
        raw_name: the name field, which a longer name overflows.
        name: the same with its prefix, as text.
        size: bytes of data.
    """

    kind: bytes
    raw_name: bytes
    name: str
    size: int

    @property
    def is_long_name(self) -> bool:
        """Whether the data are GNU's long name of the next member."""
        return self.kind == tarfile.GNUTYPE_LONGNAME

    @property
    def is_pax(self) -> bool:
        """Whether the data are pax records about the next member."""
        return self.kind in _PAX

    @property
    def is_aside(self) -> bool:
        """Whether this may stand between a long name and its member."""
        return self.kind in _ASIDE

    @property
    def is_sparse(self) -> bool:
        """Whether the data are GNU's form of a file with holes."""
        return self.kind == tarfile.GNUTYPE_SPARSE

    @property
    def is_file(self) -> bool:
        """Whether the data are a file as it is."""
        is_old_folder = self.kind == tarfile.AREGTYPE and self.raw_name.endswith(b"/")
        return self.kind in _FILES and (not is_old_folder or self.may_be_cut)

    @property
    def may_be_cut(self) -> bool:
        """Whether the name may stand for a longer one, or one with other characters."""
        return len(self.raw_name) == 100 or b"?" in self.raw_name


@dataclass(frozen=True, slots=True)
class Announced:
    """What stands before a member and overrules its header.

    Attributes:
        raw_name: its name; empty if the header's holds.
        size: its size; None if the header's holds.
        repeated: whether the header repeats the beginning of the name.
        sparse: whether the data are not the file as it is.
        spoiled: whether this is damaged.
    """

    raw_name: bytes = b""
    size: int | None = None
    repeated: bool = False
    sparse: bool = False
    spoiled: bool = False

    def fits(self, header: Header) -> bool:
        """Return whether this is whole and speaks of the member of `header`."""
        same = not self.repeated or self.raw_name[:99] == header.raw_name[:99]
        return same and not self.spoiled


def parse(block: bytes) -> Header | None:
    """Return the header in a block, or None if there is none."""
    if len(block) != BLOCK or not _has_magic(block) or not _checksum_holds(block):
        return None
    size = _number(block[124:136])
    if size is None or not 0 <= size <= MAX_SIZE:
        return None
    kind, raw_name = block[156:157], _text(block[:100])
    name = raw_name
    if block[257:263] == _POSIX and block[345]:
        name = _text(block[345:500]) + b"/" + raw_name
    if kind in _WITHOUT_DATA:
        size = 0
    return Header(kind, raw_name, decoded(name), size)


def long_name(data: bytes) -> Announced:
    """Return what the data of a GNU long name announce."""
    name = data.rstrip(b"\0")
    return Announced(raw_name=name, repeated=True, spoiled=not name or b"\0" in name)


def pax(data: bytes) -> Announced:
    """Return what pax records announce; each states its own length, so that damage shows."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        match = _PAX_RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or data[end - 1 : end] != b"\n" or end <= match.end():
            return Announced(spoiled=True)
        records[match[2]] = data[match.end() : end - 1]
        position = end
    size = records.get(b"size")
    if not records or (size is not None and not _SIZE.fullmatch(size)):
        return Announced(spoiled=True)
    return Announced(
        raw_name=records.get(b"path", b""),
        size=None if size is None else int(size),
        sparse=any(key.startswith(b"GNU.sparse.") for key in records),
    )


def decoded(name: bytes) -> str:
    """Return a name as text; bytes that are not UTF-8 survive as surrogates."""
    return name.decode("utf-8", "surrogateescape")


def is_formed(block: bytes) -> bool:
    """Return whether the name and the numbers of a header are at their places.

    A checksum is a sum: alone, it also holds for a header a few bytes off, or with one too many.
    """
    fields = (block[start:end] for start, end in itertools.pairwise(_NUMBERS))
    return block[0] != 0 and all(
        field[0] in _BASE_256 or _OCTAL.fullmatch(field) for field in fields
    )


def _has_magic(block: bytes) -> bool:
    """Return whether the magic is at its place, or V7's zeros are."""
    return block.startswith(MAGIC, MAGIC_AT) or block[MAGIC_AT:] == _V7_END


def _checksum_holds(block: bytes) -> bool:
    field = block[_CHECKSUM]
    stated = _OCTAL.fullmatch(field)
    if stated is None or not stated[1]:
        return False
    expected = int(stated[1], 8)
    found = sum(block) - sum(field) + 8 * ord(" ")
    if found == expected:
        return True
    # Some old archivers summed signed bytes.
    rest = block[: _CHECKSUM.start] + block[_CHECKSUM.stop :]
    return found - 256 * sum(byte > 127 for byte in rest) == expected


def _number(field: bytes) -> int | None:
    """Return octal digits, or GNU's base 256 for what is too large for them."""
    if field[0] in _BASE_256:
        value = int.from_bytes(field[1:], "big")
        return value - (256 ** (len(field) - 1) if field[0] == 0o377 else 0)
    match = _OCTAL.fullmatch(field.partition(b"\0")[0])
    return None if match is None else int(match[1] or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
