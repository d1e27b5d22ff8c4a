"""The training picture that looks most like each test picture, if any is the same to the eye.

Two looks, the cheap one first: hashes within some bits of each other, then thumbnails that
correlate (`perceptual.resemblance`), since the hashes of drawings on plain ground meet by chance.
Pictures whose hash and thumbnail are equal are compared once; only blocks of pairs are ever held.
Knows hashes and thumbnails; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8, UInt64
from torch import Tensor

from bifocal.data.perceptual import ALIKE, BITS, THUMBNAIL, bits_apart, near_duplicates, resemblance

BLOCK = 1 << 14
"""Pairs whose thumbnails are compared at a time."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """Pictures as they look; arrays may be memory-mapped."""

    hashes: UInt64[np.ndarray, " rows"]
    thumbnails: UInt8[np.ndarray, "rows side side"]


@dataclass(frozen=True, slots=True)
class Twins:
    """For each test picture the training picture that looks the same."""

    bits: Int[Tensor, " images"]
    """In how many bits their hashes differ; 64 where there is none."""
    rows: Int[Tensor, " images"]
    """Its row among the training features, or -1."""
    resemblance: Float[Tensor, " images"]
    """Correlation of their thumbnails; NaN where there is none."""


def find_twins(test: Pictured, train: Pictured, distance: int, alike: float = ALIKE) -> Twins:
    """Return the twin of each test picture: the fewest bits, then the highest resemblance.

    Args:
        test, train: pictures with hashes.
        distance: largest number of bits by which the hash of a twin differs.
        alike: least resemblance of a twin.

    Raises:
        ConfigError: the features were made without hashes or thumbnails.
    """
    hashes = [np.unique(np.array(side.hashes)) for side in (test, train)]
    near = near_duplicates(hashes[0], hashes[1], distance)
    mine, theirs = (
        _Looks(side, known, near[:, n])
        for n, (side, known) in enumerate(zip((test, train), hashes, strict=True))
    )
    found = [_NONE, *(_best(mine, theirs, *pairs, alike) for pairs in _pairs(near, mine, theirs))]
    best = _first_of_each(np.concatenate(found))
    bits, rows = np.full(len(test.hashes), BITS), np.full(len(test.hashes), -1)
    likeness = np.full(len(test.hashes), np.nan)
    # Every row whose look has a twin has that twin.
    at = np.full(len(mine.first), -1)
    at[best["look"]] = np.arange(len(best))
    row, place = mine.rows, at[mine.look]
    row, place = row[place >= 0], place[place >= 0]
    bits[row], likeness[row] = best["bits"][place], -best["unlike"][place]
    rows[row] = theirs.first[best["other"][place]]
    return Twins(*(torch.from_numpy(some) for some in (bits, rows, likeness)))


_FOUND = np.dtype([("look", "i8"), ("bits", "i8"), ("unlike", "f8"), ("other", "i8")])
"""A test look, a training look, and how they differ; sorts so that the best comes first."""
_NONE = np.empty(0, dtype=_FOUND)


class _Looks:
    """Different (hash, thumbnail) of one side's pictures whose hashes are among the wanted.

    Attributes:
        rows: of the pictures.
        look: number of each one's look; looks of equal hashes stand side by side.
        first: row of the first picture of each look.
        starts: of each known hash, the number of its first look; one more at the end.
    """

    def __init__(
        self,
        side: Pictured,
        known: UInt64[np.ndarray, " hashes"],
        wanted: Int64[np.ndarray, " pairs"],
    ) -> None:
        self._side = side
        own = np.searchsorted(known, np.array(side.hashes))
        self.rows = np.flatnonzero(np.isin(own, wanted))
        small = np.array(side.thumbnails[self.rows]).reshape(-1, THUMBNAIL**2)
        number = own[self.rows].astype(">u8").view(np.uint8).reshape(-1, 8)
        _, first, self.look = np.unique(
            np.concatenate((number, small), axis=1), axis=0, return_index=True, return_inverse=True
        )
        self.first = self.rows[first]
        self.starts = np.searchsorted(own[self.first], np.arange(len(known) + 1))
        self.hashes = np.array(side.hashes[self.first])

    def thumbnails(self, looks: Int64[np.ndarray, " n"]) -> np.ndarray:
        return np.array(self._side.thumbnails[self.first[looks]])


def _pairs(
    near: Int64[np.ndarray, "pairs 2"], mine: _Looks, theirs: _Looks
) -> Iterator[tuple[Int64[np.ndarray, " some"], Int64[np.ndarray, " some"]]]:
    """Yield the pairs of looks of all pairs of hashes, a block at a time."""
    i, j = near.T
    wide = (theirs.starts[1:] - theirs.starts[:-1])[j]
    counts = (mine.starts[1:] - mine.starts[:-1])[i] * wide
    ends = np.cumsum(counts)
    for start in range(0, int(ends[-1]) if len(ends) else 0, BLOCK):
        flat = np.arange(start, min(start + BLOCK, int(ends[-1])))
        pair = np.searchsorted(ends, flat, side="right")
        place = flat - (ends - counts)[pair]
        yield (
            mine.starts[i[pair]] + place // wide[pair],
            theirs.starts[j[pair]] + place % wide[pair],
        )


def _best(
    mine: _Looks,
    theirs: _Looks,
    looks: Int64[np.ndarray, " some"],
    others: Int64[np.ndarray, " some"],
    alike: float,
) -> np.ndarray:
    """Return the best of these pairs for each look that has one which is alike."""
    likeness = resemblance(mine.thumbnails(looks), theirs.thumbnails(others))
    kept = likeness >= alike
    found = np.empty(int(kept.sum()), dtype=_FOUND)
    found["look"], found["other"] = looks[kept], others[kept]
    found["bits"] = bits_apart(mine.hashes[looks[kept]], theirs.hashes[others[kept]])
    found["unlike"] = -likeness[kept]
    return _first_of_each(found)


def _first_of_each(found: np.ndarray) -> np.ndarray:
    found = np.sort(found)
    return found[np.unique(found["look"], return_index=True)[1]]
