"""Which pictures are one: the same file, the same pixels, or nearly the same to the eye.

Pictures of one look are compared with the first of them, not each with each, so that ten thousand
equal ones cost ten thousand comparisons. Knows hashes; knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from bifocal.curate.looks import Pictures
from bifocal.data.perceptual import ALIKE, FLAT, near_duplicates, resemblance

Kind = Literal["same file", "same pixels", "near"]
KINDS: tuple[Kind, ...] = ("same file", "same pixels", "near")
"""From the narrowest to the widest."""

_BLOCK = 1 << 14
"""Pairs whose thumbnails are compared at a time."""

Counts = dict[Kind, int]
Groups = Int64[np.ndarray, " n"]
"""For each picture the first of its group."""


@dataclass(frozen=True, slots=True)
class Twins:
    """Two pictures that are one, by their places among the pictures.

    Attributes:
        distance: bits in which their looks differ.
        across: whether they are of two sources.
    """

    kind: Kind
    first: int
    second: int
    distance: int
    across: bool


@dataclass(frozen=True)
class Duplicates:
    """Pictures in groups, each kind of group within those of the next.

    Attributes:
        groups: by kind.
        flat: pictures without texture, whose looks are not compared.
    """

    pictures: Pictures
    groups: dict[Kind, Groups]
    flat: int

    def within(self, split: int) -> Counts:
        """Return how many pictures of a source repeat an earlier one of it, by kind."""
        mine = self.pictures.splits == split
        repeats: Counts = {
            kind: int(mine.sum()) - np.unique(groups[mine]).size
            for kind, groups in self.groups.items()
        }
        return _steps(repeats)

    def across(self, split: int, other: int) -> Counts:
        """Return how many pictures of a source are also in another, by kind."""
        mine, theirs = (self.pictures.splits == n for n in (split, other))
        shared: Counts = {
            kind: int(np.isin(groups[mine], groups[theirs]).sum())
            for kind, groups in self.groups.items()
        }
        return _steps(shared)

    def twins(self) -> Iterator[Twins]:
        """Yield each picture that repeats another, with the first of its group."""
        splits, looks = self.pictures.splits, self.pictures.looks
        told = np.zeros(len(splits), dtype=bool)
        for kind, groups in self.groups.items():
            for second in np.flatnonzero((groups != np.arange(len(groups))) & ~told):
                first = int(groups[second])
                bits = (int(looks[first]) ^ int(looks[second])).bit_count()
                across = bool(splits[first] != splits[second])
                yield Twins(kind, first, int(second), bits, across)
                told[second] = True


def find_duplicates(pictures: Pictures, distance: int) -> Duplicates:
    """Return the groups of pictures that are one.

    Args:
        pictures: of one source or several.
        distance: bits in which two looks may differ. Such pairs are near only if their thumbnails
            resemble each other too (`perceptual.ALIKE`), since drawings' looks meet by chance.
    """
    files, pixels = _firsts(pictures.files), _firsts(pictures.pixels)
    groups: dict[Kind, Groups] = {"same file": files, "same pixels": pixels}
    groups["near"] = _united(pixels, _near(pictures, pixels, distance))
    return Duplicates(pictures, groups, int((pictures.looks == FLAT).sum()))


def _near(pictures: Pictures, pixels: Groups, distance: int) -> Int64[np.ndarray, "pairs 2"]:
    """Return pairs of pictures, different in their pixels, that look alike."""
    distinct = np.flatnonzero(pixels == np.arange(len(pixels)))
    distinct = distinct[pictures.looks[distinct] != FLAT]
    looks, first, group = np.unique(
        pictures.looks[distinct], return_index=True, return_inverse=True
    )
    alike = np.stack((distinct[first][group], distinct), axis=1)
    near = distinct[first][near_duplicates(looks, None, distance)]
    pairs = np.concatenate((alike[alike[:, 0] != alike[:, 1]], near))
    kept = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        a, b = (pictures.thumbnails[some[:, side]] for side in (0, 1))
        kept.append(some[resemblance(a, b) >= ALIKE])
    return np.concatenate(kept)


def _firsts(values: Shaped[np.ndarray, " n"]) -> Groups:
    """Return for each value where an equal one stands first."""
    _, first, group = np.unique(values, return_index=True, return_inverse=True)
    return first[group]


def _united(groups: Groups, pairs: Int64[np.ndarray, "pairs 2"]) -> Groups:
    """Return groups in which those of each pair are one."""
    parents = groups.copy()

    def root(n: int) -> int:
        while parents[n] != n:
            parents[n] = n = int(parents[parents[n]])
        return n

    for i, j in pairs.tolist():
        a, b = sorted((root(i), root(j)))
        parents[b] = a
    return np.array([root(n) for n in range(len(parents))], dtype=np.int64)


def _steps(counts: Counts) -> Counts:
    """Return what each kind adds to the narrower ones."""
    steps: Counts = {}
    before = 0
    for kind, count in counts.items():
        steps[kind], before = count - before, count
    return steps
