"""Intervals of figures that are no means over examples: medians, areas, errors of calibration.

A resample says how often each unit was drawn; a statistic makes a figure of such weights. Intervals
lie between percentiles of the figures, corrected for bias (BC; Efron & Tibshirani 1993, section
14.3 without the acceleration). Where the bias is larger than the spread, as the calibration error's
of few pictures, no percentile corrects it: the bounds then begin or end at the figure itself. Knows
numbers about examples; knows nothing of models or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from bifocal.evaluate.statistics import Interval, quantile
from bifocal.evaluate.units import STANDARD, TILE, Bootstrap

PERCENTILE = "bias-corrected percentile bootstrap"

Statistic = Callable[[Tensor], Tensor]
"""Weights of the examples, one row a resample, to a figure a row."""


def percentile_interval(
    statistic: Statistic,
    examples: int,
    *,
    groups: Int[Tensor, " examples"] | None = None,
    classes: Int[Tensor, " examples"] | None = None,
    plan: Bootstrap = STANDARD,
) -> Interval | None:
    """Return a figure with the bounds between which resamples of it lie.

    Args:
        statistic: the figure of weighted examples.
        examples: how many there are.
        groups: examples of one group are drawn together; each alone if None.
        classes: draws stay within a class, if given; then there are no groups.
        plan: resamples, seed and level.

    Returns:
        None where the figure is not defined, or there are fewer than two units.
    """
    value = float(statistic(torch.ones(1, examples, dtype=torch.float64))[0])
    units, unit = examples, torch.arange(examples)
    if groups is not None:
        unit = groups.cpu().unique(return_inverse=True)[1]
        units = int(unit.max()) + 1
    if math.isnan(value) or units < 2:
        return None
    drawn = torch.cat([statistic(rows[:, unit]) for rows in _draws(units, classes, plan)])
    drawn = drawn[drawn.isfinite()]
    outside = (1 - plan.level) / 2
    below = (drawn < value).double().mean() + 0.5 * (drawn == value).double().mean()
    z = 2 * quantile(below, len(drawn)) + torch.special.ndtri(
        drawn.new_tensor([outside, 1 - outside])
    )
    low, high = drawn.quantile(torch.special.ndtr(z)).tolist()
    low, high = min(low, value), max(high, value)
    return Interval(value, low, high, plan.level, units, plan.resamples, plan.seed, PERCENTILE)


def median_of(values: Float[Tensor, " examples"] | Int[Tensor, " examples"]) -> Statistic:
    """Return the statistic of the median, the lower one of two."""
    found, order = values.double().cpu().sort()

    def median(weights: Float64[Tensor, "rows examples"]) -> Float64[Tensor, " rows"]:
        reached = weights[:, order].cumsum(dim=1)
        half = (reached >= reached[:, -1:] / 2).int().argmax(dim=1)
        return found[half]

    return median


def roc_auc_of(
    scores: Float[Tensor, " examples"], positive: Bool[Tensor, " examples"]
) -> Statistic:
    """Return the statistic of the area under the receiver's curve: a tie is half."""
    values, place = scores.double().cpu().unique(return_inverse=True)
    ones = positive.cpu().double()

    def area(weights: Float64[Tensor, "rows examples"]) -> Float64[Tensor, " rows"]:
        empty = weights.new_zeros(len(weights), len(values))
        good = empty.index_add(1, place, weights * ones)
        bad = empty.index_add(1, place, weights * (1 - ones))
        below = bad.cumsum(dim=1) - bad / 2
        return (good * below).sum(dim=1) / (good.sum(dim=1) * bad.sum(dim=1))

    return area


def _draws(
    units: int, classes: Int[Tensor, " units"] | None, plan: Bootstrap
) -> Iterator[Float64[Tensor, "rows units"]]:
    """Yield how often each unit was drawn, some resamples at a time."""
    stratum = torch.zeros(units, dtype=torch.long) if classes is None else classes.cpu()
    stratum = stratum.unique(return_inverse=True)[1]
    order = stratum.argsort(stable=True)
    sizes = torch.bincount(stratum)
    width = sizes.repeat_interleave(sizes)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    generator = torch.Generator().manual_seed(plan.seed)
    at_once = max(1, TILE // units)
    for done in range(0, plan.resamples, at_once):
        rows = min(at_once, plan.resamples - done)
        uniform = torch.rand(rows, units, dtype=torch.float64, generator=generator)
        drawn = order[first + (uniform * width).long()]
        yield uniform.new_zeros(rows, units).scatter_add_(1, drawn, torch.ones_like(uniform))
