"""Where the members of a tar archive lie.

Reads headers only, once. Where a header is damaged the next good one is found by its checksum, so
that a bad block costs the members it touches and no others; what was lost is counted. Knows
nothing of samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bifocal.data.archive import Member, Reader
from bifocal.data.tar_header import (
    BLOCK,
    MAGIC,
    MAGIC_AT,
    MAX_NAME_DATA,
    Announced,
    Header,
    decoded,
    is_formed,
    long_name,
    parse,
    pax,
)
from bifocal.errors import DataError

CHUNK, FIRST_CHUNK = 1 << 20, 1 << 14
MOST_SEARCHED = 1 << 26
"""Bytes of the largest member that is searched for headers of others."""
_ZEROS = bytes(CHUNK + BLOCK)
_CHECKSUM_BYTES = np.isin(np.arange(256), np.frombuffer(b"01234567 \0", dtype=np.uint8))

DAMAGED = "damaged header"
HOLE = "gap of zeros between members"
CUT_SHORT = "member with blocks missing"
CUT_OFF = "member cut off by the end"
NO_END = "no end mark: perhaps cut off"
BAD_NAME = "damaged long name"
SPARSE = "sparse member"


@dataclass(frozen=True, slots=True)
class Contents:
    """The regular files that lie wholly in an archive, in order, and what was lost of others."""

    members: list[Member]
    losses: Counter[str]


def scan(path: Path) -> Contents:
    """Return the contents of an archive, damaged or not.

    Raises:
        DataError: the archive cannot be read, or is compressed.
    """
    reader = Reader(path)
    walk = _Walk(reader)
    found = list(walk)
    if not found and reader.at(0, 2) in (b"\x1f\x8b", b"BZ", b"(\xb5", b"\xfd7"):
        raise DataError(f"the shard {path} is compressed: unpack it, as shards are read in place")
    return Contents(found, walk.losses)


def members(path: Path) -> list[Member]:
    """Return the regular files that lie wholly in an archive, in order."""
    return scan(path).members


@dataclass
class _Walk:
    """One pass from header to header.

    A member is held back until a header, or the end mark, is found where its data end: only then
    is it known that none of its blocks are missing.
    """

    reader: Reader
    losses: Counter[str] = field(default_factory=Counter)
    _held: Member | None = None
    _announced: Announced | None = None
    _after_damage: bool = False

    def __iter__(self) -> Iterator[Member]:
        position, body = 0, 0
        while True:
            header = parse(self.reader.at(position, BLOCK))
            found = position if header else self._resynchronise(body, position)
            if self._held:
                yield self._held
            self._held = None
            if header:
                body = position + BLOCK
                position = body + -(-self._take(header, body) // BLOCK) * BLOCK
            elif found is None:
                return
            else:
                position = body = found
                self._announced, self._after_damage = None, True

    def _take(self, header: Header, body: int) -> int:
        """Note what a header says; return the size of its data."""
        if header.is_long_name or header.is_pax:
            read = long_name if header.is_long_name else pax
            data = self.reader.at(body, header.size) if header.size <= MAX_NAME_DATA else b""
            self._announced = read(data) if len(data) == header.size else Announced(spoiled=True)
            return header.size
        if header.is_aside:
            return header.size
        before, after_damage = self._announced, self._after_damage
        self._announced, self._after_damage = None, False
        before = before or Announced(spoiled=after_damage and header.may_be_cut)
        size = header.size if before.size is None else before.size
        if header.is_sparse or before.sparse:
            self.losses[SPARSE] += 1
        elif header.is_file and not before.fits(header):
            self.losses[BAD_NAME] += 1
        elif header.is_file:
            name = decoded(before.raw_name) if before.raw_name else header.name
            self._held = Member(name, body, size)
        return size

    def _resynchronise(self, body: int, position: int) -> int | None:
        """Return where the next header stands after one that is missing at `position`.

        A header inside the data before it means that some of them are missing.
        """
        end = self.reader.size
        reach = end if position > end else min(position, body + MOST_SEARCHED)
        found = self._find(body, reach)
        held_end = self._held.offset + self._held.size if self._held else end
        if found is not None and (found < held_end or self.reader.at(held_end - 1, 1) == b"\0"):
            # Where only padding is missing, the data still end as pictures and texts do.
            self._held = None
            self.losses[CUT_SHORT] += 1
        if found is not None:
            return found
        if held_end > end:
            self._held = None
            self.losses[CUT_OFF] += 1
            return None
        found = self._find(position, end)
        gap_end = end if found is None else found
        if self._has_content(position, gap_end):
            self.losses[DAMAGED] += 1
        elif found is not None:
            self.losses[HOLE] += 1
        elif gap_end - position < BLOCK:
            self.losses[NO_END] += 1
        return found

    def _has_content(self, start: int, end: int) -> bool:
        return any(
            not _is_zero(self.reader.at(offset, min(CHUNK, end - offset)))
            for offset in range(start, end, CHUNK)
        )

    def _find(self, start: int, end: int) -> int | None:
        """Return where the first header is: on any byte with ustar's magic, else on a block's."""
        offset, size = start - start % BLOCK, FIRST_CHUNK
        while offset < end:
            data = self.reader.at(offset, size + BLOCK - 1)
            for at in sorted(_candidates(data)):
                block = data[at : at + BLOCK]
                if start <= offset + at < end and parse(block) and is_formed(block):
                    return offset + at
            offset, size = offset + size, min(2 * size, CHUNK)
        return None


def _candidates(data: bytes) -> set[int]:
    """Return where in the data a header may stand."""
    if _is_zero(data):
        return set()
    blocks = np.frombuffer(data, dtype=np.uint8, count=len(data) // BLOCK * BLOCK)
    fields = blocks.reshape(-1, BLOCK)[:, 148:154]
    likely = _CHECKSUM_BYTES[fields].all(axis=1) & fields.any(axis=1)
    found = {int(n) * BLOCK for n in np.flatnonzero(likely)}
    at = data.find(MAGIC, MAGIC_AT)
    while at >= 0:
        found.add(at - MAGIC_AT)
        at = data.find(MAGIC, at + 1)
    return found


def _is_zero(data: bytes) -> bool:
    return data == _ZEROS[: len(data)]
