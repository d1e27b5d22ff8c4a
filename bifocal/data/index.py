"""The index of one shard: names of its samples and where their parts lie, as flat arrays.

About fifty bytes a sample, in memory as on disk. The file is a magic word, the length of a JSON
header, the header, the arrays, and a checksum of all of that; a file that is not whole is refused.
Knows the format; knows nothing of where such files are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from bifocal.data.archive import Member
from bifocal.data.pairing import ARRAYS, SUFFIXES, Parts, pair
from bifocal.data.tar import scan
from bifocal.data.tar_header import decoded
from bifocal.errors import DataError

MAGIC = b"bifocal.index/1\n"
CHECKSUM = 16
KNOWN = SUFFIXES + ARRAYS
"""Suffixes that a part may have; an index that is kept has those of `SUFFIXES` alone."""
_LAYOUT = (("key_ends", "<u4"), ("part_ends", "<u4"), ("sizes", "<u4"), ("offsets", "<i8"))
"""Arrays of numbers, in the order of the file; the suffixes and the keys follow as bytes."""


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    size: int
    mtime_ns: int


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        DataError: there is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot open the shard {path}: {error.strerror}") from None
    return Stamp(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, eq=False)
class Index:
    """The samples of one shard.

    Attributes:
        keys: names of the samples, one behind the other.
        key_ends: where each name ends.
        part_ends: where the parts of each sample end in the three arrays below.
        suffixes: of each part, as a place in `KNOWN`.
        sizes: bytes of each part.
        offsets: of each part in the shard.
        losses: what could not be used, by reason.
        digest: hash (hex) of names, suffixes and sizes, whatever their offsets.
    """

    keys: bytes
    key_ends: UInt32[np.ndarray, " samples"]
    part_ends: UInt32[np.ndarray, " samples"]
    suffixes: UInt8[np.ndarray, " parts"]
    sizes: UInt32[np.ndarray, " parts"]
    offsets: Int64[np.ndarray, " parts"]
    losses: Mapping[str, int]
    digest: str = field(init=False)
    _views: tuple[memoryview, ...] = field(init=False, repr=False)
    """The arrays again: a view gives one number in a third of the time that an array takes."""

    def __post_init__(self) -> None:
        digest = hashlib.blake2b(digest_size=CHECKSUM)
        for array in (self.key_ends, self.part_ends, self.suffixes, self.sizes):
            digest.update(array.tobytes())
        digest.update(self.keys)
        object.__setattr__(self, "digest", digest.hexdigest())
        arrays = (self.key_ends, self.part_ends, self.suffixes, self.sizes, self.offsets)
        object.__setattr__(self, "_views", tuple(memoryview(array.data) for array in arrays))

    def __len__(self) -> int:
        return len(self.key_ends)

    def sample(self, number: int) -> tuple[str, Parts]:
        """Return the key and the parts of a sample; a part's member has the suffix for a name."""
        key_ends, part_ends, suffixes, sizes, offsets = self._views
        first, key_start = (part_ends[number - 1], key_ends[number - 1]) if number else (0, 0)
        parts: Parts = {}
        for n in range(first, part_ends[number]):
            suffix = KNOWN[suffixes[n]]
            parts[suffix] = Member(suffix, offsets[n], sizes[n])
        return decoded(self.keys[key_start : key_ends[number]]), parts


def build(path: Path, suffixes: Sequence[str] = SUFFIXES) -> Index:
    """Return the index of a shard, read from its headers; `suffixes` are those of `pair`.

    Raises:
        DataError: the shard cannot be read.
    """
    contents = scan(path)
    samples, losses = pair(contents.members, suffixes)
    keys = [key.encode("utf-8", "surrogateescape") for key, _ in samples]
    parts = [(KNOWN.index(s), member) for _, found in samples for s, member in found.items()]
    return Index(
        keys=b"".join(keys),
        key_ends=np.cumsum([len(key) for key in keys], dtype="<u4"),
        part_ends=np.cumsum([len(found) for _, found in samples], dtype="<u4"),
        suffixes=np.array([suffix for suffix, _ in parts], dtype=np.uint8),
        sizes=np.array([member.size for _, member in parts], dtype="<u4"),
        offsets=np.array([member.offset for _, member in parts], dtype="<i8"),
        losses=contents.losses + losses,
    )


def to_bytes(index: Index, of: Stamp) -> bytes:
    """Return the file of an index of the shard in the state `of`."""
    header = {
        "shard": of,
        "suffixes": SUFFIXES,
        "samples": len(index),
        "parts": len(index.suffixes),
        "losses": index.losses,
    }
    text = json.dumps(header).encode()
    arrays = [getattr(index, name).tobytes() for name, _ in _LAYOUT]
    lengths = len(text).to_bytes(4, "little")
    body = b"".join([MAGIC, lengths, text, *arrays, index.suffixes.tobytes(), index.keys])
    return body + _checksum(body)


def from_bytes(data: bytes) -> tuple[Index, Stamp]:
    """Return the index in a file and the state of the shard that it describes.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if not body.startswith(MAGIC) or checksum != _checksum(body):
        raise DataError("damaged index, or one of another version")
    position = len(MAGIC) + 4
    length = int.from_bytes(body[position - 4 : position], "little")
    header = json.loads(body[position : position + length])
    if tuple(header["suffixes"]) != SUFFIXES:
        raise DataError("index with other suffixes")
    position += length
    samples, parts = header["samples"], header["parts"]
    arrays = {}
    for (name, kind), count in zip(_LAYOUT, (samples, samples, parts, parts), strict=True):
        # Copied, as a view of numbers wants them aligned; the file's bytes are then let go.
        arrays[name] = np.frombuffer(body, kind, count, position).copy()
        position += arrays[name].nbytes
    arrays["suffixes"] = np.frombuffer(body, np.uint8, parts, position).copy()
    index = Index(keys=body[position + parts :], losses=Counter(header["losses"]), **arrays)
    return index, Stamp(*header["shard"])


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM).digest()
