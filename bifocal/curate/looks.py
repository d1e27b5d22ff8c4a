"""What is measured of one sample when data are looked over: hashes, sizes, captions.

Knows one sample at a time; knows nothing of other samples or of how findings are shown.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from bifocal.curate.crew import Joined, Positions
from bifocal.data.loader import read_image
from bifocal.data.perceptual import THUMBNAIL, perceptual_hash, thumbnail
from bifocal.errors import DataError


@dataclass(frozen=True, slots=True)
class Look:
    """One sample.

    Attributes:
        position: in the joined sources.
        key: its name.
        captions: what is said of it.
        shape: height and width of its picture in pixels.
        size: bytes of its picture's file; 0 where there is none.
        hashes: of the file, of the decoded pixels, and of the look.
        thumbnail: its picture in grey, as bytes.
    """

    position: int
    key: str
    captions: tuple[str, ...]
    shape: tuple[int, int]
    size: int
    hashes: tuple[int, int, int]
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A sample that cannot be read: where it is, and why."""

    position: int
    place: str
    reason: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of all samples that could be read, as columns: some 400 bytes each.

    Attributes:
        positions: of the samples, ascending.
        splits: which source each is of.
        files, pixels, looks: hashes.
        shapes: heights and widths in pixels.
        sizes: bytes of the files.
        thumbnails: in grey.
        keys: names of the samples.
    """

    positions: Int64[np.ndarray, " n"]
    splits: Int64[np.ndarray, " n"]
    files: UInt64[np.ndarray, " n"]
    pixels: UInt64[np.ndarray, " n"]
    looks: UInt64[np.ndarray, " n"]
    shapes: Int64[np.ndarray, "n 2"]
    sizes: Int64[np.ndarray, " n"]
    thumbnails: UInt8[np.ndarray, "n side side"]
    keys: list[str]


class Gathering:
    """Looks on their way to columns, without an object a picture."""

    def __init__(self) -> None:
        self._numbers, self._hashes = array("q"), array("Q")
        self._thumbnails, self._keys = bytearray(), list[str]()

    def add(self, look: Look, split: int) -> None:
        """Append one look."""
        self._numbers.extend((look.position, split, *look.shape, look.size))
        self._hashes.extend(look.hashes)
        self._thumbnails += look.thumbnail
        self._keys.append(look.key)

    def pictures(self) -> Pictures:
        """Return what was added, as columns."""
        positions, splits, heights, widths, sizes = (
            np.frombuffer(self._numbers, np.int64).reshape(-1, 5).T.copy()
        )
        files, pixels, looks = np.frombuffer(self._hashes, np.uint64).reshape(-1, 3).T.copy()
        thumbnails = np.frombuffer(self._thumbnails, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
        shapes = np.stack((heights, widths), axis=1)
        return Pictures(
            positions, splits, files, pixels, looks, shapes, sizes, thumbnails, self._keys
        )


def look_over(joined: Joined, positions: Positions) -> list[Look | Damage]:
    """Return what is measured of the samples at `positions`."""
    found: list[Look | Damage] = []
    for position in map(int, positions):
        try:
            found.append(_look(joined, position))
        except DataError as error:
            found.append(Damage(position, joined.place(position), str(error)))
    return found


def _look(joined: Joined, position: int) -> Look:
    sample = joined.read(position)
    image = read_image(sample)
    encoded = sample.image if isinstance(sample.image, bytes) else sample.image.tobytes()
    # Without the shape a picture and its transpose could have the same bytes.
    shape = (image.shape[1], image.shape[2])
    pixels = repr(shape).encode() + image.permute(1, 2, 0).contiguous().numpy().tobytes()
    return Look(
        position,
        sample.key,
        sample.captions,
        shape,
        len(sample.image) if isinstance(sample.image, bytes) else 0,
        (_hash(encoded), _hash(pixels), perceptual_hash(image)),
        thumbnail(image).tobytes(),
    )


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
