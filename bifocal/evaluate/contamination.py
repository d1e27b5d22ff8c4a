"""How far test pictures that training has seen raise a figure (paper section 5).

A test picture overlaps if a training picture looks the same (perceptual hash, then thumbnail:
`twins`) or, where a threshold is given, is nearly the same to the model (cosine of image features).
The test set is then All, its two parts are Overlap and Clean. The paper sets the threshold by hand,
a data set at a time, after looking at pairs; so does whoever uses this: no threshold suits two
models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bifocal.data.perceptual import ALIKE, NEAR, THUMBNAIL
from bifocal.data.sample import Source
from bifocal.embed import Embedded
from bifocal.evaluate.binomial import at_least, clopper_pearson
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import Pictures, check_finite
from bifocal.evaluate.retrieval import retrieve
from bifocal.evaluate.statistics import Interval
from bifocal.evaluate.twins import Pictured, find_twins
from bifocal.evaluate.zero_shot import classify
from bifocal.identity import JSON
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
    """In how many bits the hash of the twin by looks differs; 64 where there is none."""
    twins: Int[Tensor, " images"]
    """Row of that training picture, or -1."""
    resemblance: Float[Tensor, " images"]
    """Correlation of its thumbnail; NaN where there is no twin."""

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


def asked(threshold: float | None, distance: int) -> dict[str, JSON]:
    """Return what is asked of a match, for a record: either of two ways makes a copy."""
    looks = {"hash": "64 lowest frequencies (DCT) of a 32 x 32 thumbnail", "bits": distance}
    return {
        "looks": {**looks, "resemblance": ALIKE, "thumbnail": f"{THUMBNAIL} x {THUMBNAIL}, grey"},
        "cosine": threshold,
    }


def neighbours(
    test: Embedded, train: Embedded, distance: int = NEAR, device: str | torch.device = "cpu"
) -> Neighbours:
    """Return the training picture nearest to each test picture; only tiles are ever held.

    Args:
        test, train: pictures with hashes, embedded by the same model.
        distance: largest number of bits by which the hash of a copy differs; its thumbnail
            resembles to `perceptual.ALIKE` too.
        device: computes the similarities.

    Raises:
        ConfigError: the features are of different kinds, or have no hashes.
        DataError: a feature is not finite.
    """
    queries = torch.from_numpy(np.array(test.image_features, dtype=np.float32)).to(device)
    cosines, rows = train.nearest(queries, 1)
    check_finite(cosines)
    looks = [Pictured(side.hashes, side.thumbnails) for side in (test, train)]
    twins = find_twins(looks[0], looks[1], distance)
    return Neighbours(
        cosines[:, 0].cpu(), rows[:, 0].cpu(), twins.bits, twins.rows, twins.resemblance
    )


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
