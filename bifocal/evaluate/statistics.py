"""How far a figure may be from the truth, and whether two models really differ.

Intervals are bootstraps of a mean over examples, or of a mean over classes of such means, corrected
for bias and skewness (BCa; Efron & Tibshirani 1993, section 14.3): figures near 0 or 1 are skewed,
and plain percentiles are too short there. What is drawn, and how, is in `units`.

Knows numbers about examples; knows nothing of models or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from bifocal.evaluate.mcnemar import check_pairs
from bifocal.evaluate.units import STANDARD, Bootstrap, Units, estimate, gather, spread

BCA, EXACT = "BCa bootstrap", "exact binomial"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the bounds that hold it at the given level, and how they were found."""

    value: float
    low: float
    high: float
    level: float
    units: int
    """Independent things that were drawn."""
    resamples: int
    seed: int
    method: str
    """"BCa bootstrap", or "exact binomial" where all examples agree."""


@dataclass(frozen=True, slots=True)
class Paired:
    """First model less second on the same examples; `p_value` is two-sided."""

    difference: Interval
    p_value: float


def interval(
    values: Float[Tensor, " examples"] | Bool[Tensor, " examples"],
    *,
    groups: Int[Tensor, " examples"] | None = None,
    classes: Int[Tensor, " examples"] | None = None,
    plan: Bootstrap = STANDARD,
) -> Interval:
    """Return the mean of a figure over examples with its confidence interval.

    Args:
        values: the figure of each example, as right or wrong.
        groups: examples of one group are drawn together; each alone if None.
        classes: the mean is one over classes of the means within, and draws stay within a class; a
            class with one unit shows no spread, so that many such make the interval too narrow.
        plan: resamples, seed and level.

    Where all examples are right (or all wrong), resamples cannot differ: the bound is then the
    exact binomial one, (α/2)^(1/n), of Clopper & Pearson 1934.

    Raises:
        DataError: there are fewer than two units and not all examples agree, or no example at all.
        ConfigError: a group has examples of several classes.
    """
    units = gather(values, groups, classes)
    first = float(values[0])
    if first in (0.0, 1.0) and bool((values == values[0]).all()):
        return _unanimous(first, units, plan)
    return _corrected(*spread(units, plan), plan)


def paired_difference(
    first: Float[Tensor, " examples"] | Bool[Tensor, " examples"],
    second: Float[Tensor, " as_many"] | Bool[Tensor, " as_many"],
    *,
    groups: Int[Tensor, " examples"] | None = None,
    classes: Int[Tensor, " examples"] | None = None,
    plan: Bootstrap = STANDARD,
) -> Paired:
    """Return how much better the first of two models is, from the same examples in the same order.

    Both are drawn together, so that what makes an example hard for both does not count. The
    p-value is one less the highest level at which the interval leaves zero out; with r resamples it
    cannot be told from zero below about 1 / r. Of n units that differ, chance gives all the same
    sign with probability 2^(1 - n); it is no smaller than that.

    Args:
        first, second: the figure of each example, by each model.
        groups, classes, plan: as for `interval`.

    Raises:
        DataError: the examples are not equally many, or fewer than two units.
        ConfigError: a group has examples of several classes.
    """
    check_pairs(first, second)
    units = gather(first.double() - second.double(), groups, classes)
    units, drawn = spread(units, plan)
    return Paired(_corrected(units, drawn, plan), _p_value(units, drawn))


def _corrected(units: Units, drawn: Float64[Tensor, " resamples"], plan: Bootstrap) -> Interval:
    """Return the interval between the quantiles of `drawn` that bias and skewness call for."""
    bias, skewness = _bias(units, drawn), _skewness(units)
    outside = (1 - plan.level) / 2
    z = bias + torch.special.ndtri(drawn.new_tensor([outside, 1 - outside]))
    levels = torch.special.ndtr(bias + z / (1 - skewness * z).clamp(min=0.01))
    # What scaling moved beyond the largest or smallest example, no mean can be.
    each = units.sums / units.counts
    least, most = units.range or (float(each.min()), float(each.max()))
    low, high = drawn.quantile(levels).clamp(least, most).tolist()
    value = estimate(units).mean().item()
    return Interval(value, low, high, plan.level, len(units.sums), plan.resamples, plan.seed, BCA)


def _p_value(units: Units, drawn: Float64[Tensor, " resamples"]) -> float:
    """Return twice the smaller tail beyond zero: the interval's correction, read backwards."""
    bias, skewness = _bias(units, drawn), _skewness(units)
    # Resamples at zero itself speak for neither side.
    shares = torch.stack([(drawn <= 0).double().mean(), (drawn < 0).double().mean()])
    z = quantile(shares, len(drawn)) - bias
    lower, upper = torch.special.ndtr(z / (1 + skewness * z).clamp(min=0.01) - bias).tolist()
    fewest = 2.0 ** (1 - int((units.sums != 0).sum()))
    return min(1.0, max(fewest, min(2 * lower, 2 * (1 - upper))))


def _bias(units: Units, drawn: Float64[Tensor, " resamples"]) -> Float64[Tensor, ""]:
    """Return the normal quantile of the share of resamples below the estimate; ties count half."""
    value = estimate(units).mean()
    share = (drawn < value).double().mean() + 0.5 * (drawn == value).double().mean()
    return quantile(share, len(drawn))


def quantile(share: Tensor, resamples: int) -> Tensor:
    """Return the normal quantile of a share of resamples, finite even where it is 0 or 1."""
    rare = 1 / (2 * resamples)
    return torch.special.ndtri(share.clamp(rare, 1 - rare))


def _skewness(units: Units) -> Float64[Tensor, ""]:
    """Return the acceleration: a sixth of the skewness of the units' influences on the figure.

    They are the jackknife's in closed form, for means within strata.
    """
    stratum = torch.arange(len(units.sizes)).repeat_interleave(units.sizes)
    totals = torch.zeros_like(units.sizes, dtype=torch.float64).index_add(0, stratum, units.counts)
    influence = (units.sums - estimate(units)[stratum] * units.counts) / totals[stratum]
    spread = influence.square().sum() ** 1.5
    return influence.pow(3).sum() / (6 * spread) if spread > 0 else spread


def _unanimous(value: float, units: Units, plan: Bootstrap) -> Interval:
    # For a mean over classes, as if each had no more units than the smallest: never too narrow.
    trials = int(units.sizes.min()) * len(units.sizes)
    bound = ((1 - plan.level) / 2) ** (1 / trials)
    low, high = (bound, 1.0) if value else (0.0, 1 - bound)
    return Interval(value, low, high, plan.level, len(units.sums), 0, plan.seed, EXACT)
