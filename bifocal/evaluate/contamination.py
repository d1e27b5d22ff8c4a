"""How far test pictures that training has seen raise a figure (paper section 5).

A test picture overlaps if a training picture looks the same (perceptual hash) or, where a threshold
is given, is nearly the same to the model (cosine of image features). The test set is then All, its
two parts are Overlap and Clean. The paper sets the threshold by hand, a data set at a time, after
looking at pairs; so does whoever uses this: no threshold suits two models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from bifocal.data.perceptual import BITS, NEAR, near_duplicates
from bifocal.data.sample import Source
from bifocal.embed import Embedded
from bifocal.evaluate.binomial import at_least, clopper_pearson
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.retrieval import retrieve
from bifocal.evaluate.statistics import Interval
from bifocal.evaluate.zero_shot import classify
from bifocal.inputs.prompts import PHOTO
from bifocal.pretrained import Pretrained

STRICT = 0.995
"""Level of the interval of Overlap, as in the paper's figure 17."""


@dataclass(frozen=True, slots=True)
class Side:
    """Pictures of one side of the comparison, and their features."""

    source: Source
    features: Embedded

    def reading(self) -> Pictures:
        """Return how an evaluation reads these pictures: from their features."""
        return Pictures(self.features.meta["data"]["samples"], stored=self.features)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The training picture nearest to each test picture, by the model and by looks."""

    cosines: Float[Tensor, " images"]
    rows: Int[Tensor, " images"]
    """Row among the training features that the cosine is of."""
    bits: Int[Tensor, " images"]
    """In how many bits the hash nearest by looks differs; 64 where none is near."""
    twins: Int[Tensor, " images"]
    """Row of that training picture, or -1."""

    def overlap(
        self, threshold: float | None = None, distance: int = NEAR
    ) -> Bool[Tensor, " images"]:
        """Return which test pictures have a copy among the training pictures.

        Args:
            threshold: smallest cosine of a copy; None does without.
            distance: largest number of bits by which the hash of a copy differs.
        """
        copies = self.bits <= distance
        return copies if threshold is None else copies | (self.cosines >= threshold)

    def shown(self, row: int) -> int:
        """Return the training row to show beside a test picture: its twin, or the nearest."""
        twin = int(self.twins[row])
        return twin if twin >= 0 else int(self.rows[row])


@dataclass(frozen=True, slots=True)
class Contamination:
    """A figure on all test pictures, on those that overlap, and on the others."""

    figure: str
    images: int
    overlapping: int
    all: Interval
    overlap: Interval | None
    """At the paper's level of 99.5 %; None where no picture overlaps."""
    clean: Interval | None
    """None where all do."""
    p_value: float | None
    """One-tailed: so many right or more among the overlapping, at the rate of the clean ones."""

    @property
    def parts(self) -> list[tuple[str, int, Interval | None]]:
        """Name, number of pictures and figure of All, Overlap and Clean."""
        return [
            ("All", self.images, self.all),
            ("Overlap", self.overlapping, self.overlap),
            ("Clean", self.images - self.overlapping, self.clean),
        ]

    @property
    def share(self) -> float:
        """The share of test pictures that overlap."""
        return self.overlapping / self.images

    @property
    def inflation(self) -> Interval | None:
        """All less Clean: how much the figure of All says too much, if Overlap is memory.

        It is share · (Overlap - Clean); the bounds are those of Overlap.
        """
        if self.overlap is None or self.clean is None:
            return None
        base, one = self.clean.value, self.overlap
        value, low, high = (self.share * (x - base) for x in (one.value, one.low, one.high))
        return Interval(value, low, high, one.level, one.units, 0, 0, one.method)


def neighbours(
    test: Embedded, train: Embedded, distance: int = NEAR, device: str | torch.device = "cpu"
) -> Neighbours:
    """Return the training picture nearest to each test picture; only tiles are ever held.

    Args:
        test, train: pictures with hashes, embedded by the same model.
        distance: largest number of bits by which the hash of a copy differs.
        device: computes the similarities.

    Raises:
        ConfigError: the features are of different kinds, or have no hashes.
    """
    queries = torch.from_numpy(np.array(test.image_features, dtype=np.float32)).to(device)
    cosines, rows = train.nearest(queries, 1)
    bits, twins = _twins(test.hashes, train.hashes, distance)
    return Neighbours(cosines[:, 0].cpu(), rows[:, 0].cpu(), bits, twins)


def classified(
    pretrained: Pretrained, test: Side, templates: Sequence[str] = PHOTO
) -> Bool[Tensor, " images"]:
    """Return which pictures zero-shot classification names rightly.

    Raises:
        DataError: the pictures have no labels.
    """
    return classify(pretrained, test.source, Prompting(templates), test.reading()).ranks() < 1


def recalled(pretrained: Pretrained, test: Side, k: int = 1) -> Bool[Tensor, " images"]:
    """Return which pictures find a caption of theirs among the first `k` of all.

    Raises:
        DataError: the pictures have no captions.
    """
    return retrieve(pretrained, test.source, how=test.reading()).image_to_text < k


def contamination(
    right: Bool[Tensor, " images"], overlap: Bool[Tensor, " images"], figure: str = "top1"
) -> Contamination:
    """Return a figure on All, Overlap and Clean, and whether Overlap is better than chance has it.

    Args:
        right: which pictures the model has right.
        overlap: which training has seen.
        figure: what "right" means.

    Raises:
        DataError: there is no picture.
    """
    among, rest = right[overlap], right[~overlap]
    clean = clopper_pearson(int(rest.sum()), len(rest)) if len(rest) else None
    hits = int(among.sum())
    return Contamination(
        figure=figure,
        images=len(right),
        overlapping=len(among),
        all=clopper_pearson(int(right.sum()), len(right)),
        overlap=clopper_pearson(hits, len(among), STRICT) if len(among) else None,
        clean=clean,
        p_value=at_least(hits, len(among), clean.value) if clean and len(among) else None,
    )


def _twins(
    test: UInt64[np.ndarray, " images"], train: UInt64[np.ndarray, " rows"], distance: int
) -> tuple[Int[Tensor, " images"], Int[Tensor, " images"]]:
    """Return bits and row of the training hash nearest to each test hash, within a distance."""
    # Equal hashes are one: a picture that occurs a thousand times would make a million pairs.
    mine, place = np.unique(np.array(test), return_inverse=True)
    theirs, first = np.unique(np.array(train), return_index=True)
    bits = np.full(len(mine), BITS, dtype=np.int64)
    rows = np.full(len(mine), -1, dtype=np.int64)
    for i, j in near_duplicates(mine, theirs, distance).tolist():
        found = (int(mine[i]) ^ int(theirs[j])).bit_count()
        if found < bits[i]:
            bits[i], rows[i] = found, first[j]
    return torch.from_numpy(bits[place]), torch.from_numpy(rows[place])
