"""Average precision by class, of pictures that may be of several classes, and of their resamples.

A class ranks all pictures by their scores. With each picture counted w times, those of a class
found at a score or above are Σ w over them; *precision* is their share of all that are there, and
*recall* their share of the class. Pictures of one score are found together, so that their order
does not matter, nor does it when a resample holds one picture twice.

    area             Σ precision · (recall's increase): what scikit-learn computes
    eleven points    mean over recalls 0, 0.1 … 1 of the best precision at that recall or beyond
                     (Pascal VOC 2007; Everingham et al. 2010, section 4.2)

`metrics.average_precision_at_11` is the plain twin of the second. Knows scores and weights; knows
nothing of models or pictures.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from bifocal.evaluate.resampling import Statistic

Form = Literal["area", "eleven points"]
LEVELS = 11
NEARLY = 1e-9
"""Of a recall that is reached but for the rounding of a sum."""


def average_precisions(
    logits: Float[Tensor, "images classes"], relevant: Bool[Tensor, "images classes"], form: Form
) -> Float64[Tensor, " classes"]:
    """Return the average precision of every class; NaN of one without pictures."""
    ones = torch.ones(1, len(logits), dtype=torch.float64)
    rankings = zip(logits.unbind(1), relevant.unbind(1), strict=True)
    return torch.cat([Ranking(scores, right).precision(ones, form) for scores, right in rankings])


def interpolated(
    logits: Float[Tensor, "images classes"], relevant: Bool[Tensor, "images classes"]
) -> Float64[Tensor, "classes levels"]:
    """Return the best precision of every class at recall 0, 0.1 … 1 or beyond."""
    ones = torch.ones(1, len(logits), dtype=torch.float64)
    rankings = zip(logits.unbind(1), relevant.unbind(1), strict=True)
    return torch.cat([Ranking(scores, right).at_levels(ones) for scores, right in rankings])


def mean_precision_of(
    logits: Float[Tensor, "images classes"],
    relevant: Bool[Tensor, "images classes"],
    form: Form,
    absent: float = math.nan,
) -> Statistic:
    """Return the statistic of the mean over classes of their average precision.

    Args:
        logits: finite scores.
        relevant: which pictures are of which classes.
        form: of the average.
        absent: what counts for a class without pictures in a resample; NaN leaves it out.
    """
    rankings = [
        Ranking(scores, right)
        for scores, right in zip(logits.unbind(1), relevant.unbind(1), strict=True)
    ]

    def mean(weights: Float64[Tensor, "rows images"]) -> Float64[Tensor, " rows"]:
        found = torch.stack([one.precision(weights, form) for one in rankings])
        return found.where(~found.isnan(), absent).nanmean(dim=0)

    return mean


class Ranking:
    """Pictures in the order of their scores for one class, the highest first."""

    def __init__(self, scores: Float[Tensor, " images"], relevant: Bool[Tensor, " images"]) -> None:
        scores = scores.double().cpu()
        self._order = scores.argsort(descending=True, stable=True)
        ranked = scores[self._order]
        last = torch.ones(len(ranked), dtype=torch.bool)
        last[:-1] = ranked[1:] != ranked[:-1]
        self._ends = last.nonzero()[:, 0]
        self._right = relevant.cpu()[self._order].double()

    def precision(
        self, weights: Float64[Tensor, "rows images"], form: Form
    ) -> Float64[Tensor, " rows"]:
        """Return the average precision of weighted pictures; NaN where none is of the class."""
        if form == "eleven points":
            return self.at_levels(weights).mean(dim=1)
        found, precision = self._found(weights)
        gained = found.diff(dim=1, prepend=found.new_zeros(len(found), 1))
        return (gained * precision).sum(dim=1) / found[:, -1]

    def at_levels(self, weights: Float64[Tensor, "rows images"]) -> Float64[Tensor, "rows levels"]:
        """Return the best precision at each of eleven recalls or beyond; NaN as for `precision`."""
        found, precision = self._found(weights)
        total = found[:, -1:]
        beyond = precision.flip(1).cummax(dim=1).values.flip(1)
        levels = torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1)
        reached = torch.searchsorted(found, total * levels - NEARLY)
        return beyond.gather(1, reached).where(total > 0, math.nan)

    def _found(
        self, weights: Float64[Tensor, "rows images"]
    ) -> tuple[Float64[Tensor, "rows scores"], Float64[Tensor, "rows scores"]]:
        """Return, for each score, what of the class is at it or above, and the precision there."""
        ranked = weights[:, self._order]
        seen = ranked.cumsum(dim=1)[:, self._ends]
        found = (ranked * self._right).cumsum(dim=1)[:, self._ends]
        return found, found / seen.clamp(min=1)  # weights are whole: what is seen once counts 1
