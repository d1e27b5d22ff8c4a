"""How far a figure may be from the truth, and whether two models really differ.

Intervals are bootstraps of a mean over examples, or of a mean over classes of such means, corrected
for bias and skewness (BCa; Efron & Tibshirani 1993, section 14.3): figures near 0 or 1 are skewed,
and plain percentiles are too short there. What is drawn is a *unit*: an example, or all examples
that share a group (the captions of one picture are not independent). Units are drawn within their
class where the figure is a mean over classes, since test sets fix how many each class has; and the
deviations of a class of n units are scaled by √(n / (n - 1)), without which resampling understates
the variance of classes of a few examples by half or more (Rao & Wu 1988).

Knows numbers about examples; knows nothing of models or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.mcnemar import check_pairs

BCA, EXACT = "BCa bootstrap", "exact binomial"
TILE = 2**18
"""Drawn units that are held at a time."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: resamples, seed of the draws, share of them inside."""

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 100 or not 0 < self.level < 1:
            raise ConfigError(
                f"a bootstrap of {self.resamples} resamples at level {self.level}: needs 100 "
                "resamples at least and a level between 0 and 1"
            )


STANDARD = Bootstrap()


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


@dataclass(frozen=True, slots=True)
class _Units:
    """Sums and counts of examples by unit, the units of a stratum side by side."""

    sums: Float64[Tensor, " units"]
    counts: Float64[Tensor, " units"]
    sizes: Int[Tensor, " strata"]


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
    units = _gather(values, groups, classes)
    first = float(values[0])
    if first in (0.0, 1.0) and bool((values == values[0]).all()):
        return _unanimous(first, units, plan)
    return _corrected(units, plan, _resampled(units, plan))


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
    cannot be told from zero below about 1 / r.

    Args:
        first, second: the figure of each example, by each model.
        groups, classes, plan: as for `interval`.

    Raises:
        DataError: the examples are not equally many, or fewer than two units.
        ConfigError: a group has examples of several classes.
    """
    check_pairs(first, second)
    units = _gather(first.double() - second.double(), groups, classes)
    drawn = _resampled(units, plan)
    return Paired(_corrected(units, plan, drawn), _p_value(units, drawn))


def _gather(values: Tensor, groups: Tensor | None, classes: Tensor | None) -> _Units:
    if not len(values):
        raise DataError("no example: there is nothing to estimate")
    values = values.double().cpu()
    ones = torch.ones_like(values)
    stratum = torch.zeros(len(values), dtype=torch.long)
    if classes is not None:
        stratum = classes.cpu().unique(return_inverse=True)[1]
    if groups is not None:
        _, unit = groups.cpu().unique(return_inverse=True)
        units = int(unit.max()) + 1
        ends = torch.stack([_by_unit(stratum, unit, units, way) for way in ("amin", "amax")])
        if not bool((ends[0] == ends[1]).all()):
            raise ConfigError("some groups have examples of several classes: groups lie within one")
        stratum = ends[0]
        values, ones = (_by_unit(part, unit, units, "sum") for part in (values, ones))
    order = stratum.argsort(stable=True)
    return _Units(values[order], ones[order], torch.bincount(stratum))


def _by_unit(part: Tensor, unit: Tensor, units: int, way: str) -> Tensor:
    return part.new_zeros(units).scatter_reduce(0, unit, part, way, include_self=False)


def _means(sums: Tensor, counts: Tensor, sizes: Tensor) -> Float64[Tensor, "rows strata"]:
    """Return Σ sums / Σ counts of each row's strata, which are `sizes` long."""
    ends = sizes.cumsum(0) - 1
    totals = [part.cumsum(dim=1)[:, ends] for part in (sums, counts)]
    top, bottom = (part.diff(dim=1, prepend=part.new_zeros(len(part), 1)) for part in totals)
    return top / bottom


def _estimate(units: _Units) -> Float64[Tensor, " strata"]:
    return _means(units.sums[None], units.counts[None], units.sizes)[0]


def _resampled(units: _Units, plan: Bootstrap) -> Float64[Tensor, " resamples"]:
    total = len(units.sums)
    if total < 2:
        raise DataError("one picture or example only: an interval needs two at least")
    means = _estimate(units)
    widen = (units.sizes / (units.sizes - 1).clamp(min=1)).double().sqrt()
    width = units.sizes.repeat_interleave(units.sizes)
    first = (units.sizes.cumsum(0) - units.sizes).repeat_interleave(units.sizes)
    generator = torch.Generator().manual_seed(plan.seed)
    rows = max(1, TILE // total)
    parts: list[Tensor] = []
    for done in range(0, plan.resamples, rows):
        count = min(rows, plan.resamples - done)
        uniform = torch.rand(count, total, dtype=torch.float64, generator=generator)
        drawn = first + (uniform * width).long()
        found = _means(units.sums[drawn], units.counts[drawn], units.sizes)
        parts.append((means + widen * (found - means)).mean(dim=1))
    return torch.cat(parts)


def _corrected(units: _Units, plan: Bootstrap, drawn: Float64[Tensor, " resamples"]) -> Interval:
    """Return the interval between the quantiles of `drawn` that bias and skewness call for."""
    bias, skewness = _bias(units, drawn), _skewness(units)
    outside = (1 - plan.level) / 2
    z = bias + torch.special.ndtri(drawn.new_tensor([outside, 1 - outside]))
    levels = torch.special.ndtr(bias + z / (1 - skewness * z).clamp(min=0.01))
    # What scaling moved beyond the largest or smallest example, no mean can be.
    each = units.sums / units.counts
    low, high = drawn.quantile(levels).clamp(each.min(), each.max()).tolist()
    value = _estimate(units).mean().item()
    return Interval(value, low, high, plan.level, len(units.sums), plan.resamples, plan.seed, BCA)


def _p_value(units: _Units, drawn: Float64[Tensor, " resamples"]) -> float:
    """Return twice the smaller tail beyond zero: the interval's correction, read backwards."""
    bias, skewness = _bias(units, drawn), _skewness(units)
    # Resamples at zero itself speak for neither side.
    shares = torch.stack([(drawn <= 0).double().mean(), (drawn < 0).double().mean()])
    z = _quantile(shares, len(drawn)) - bias
    lower, upper = torch.special.ndtr(z / (1 + skewness * z).clamp(min=0.01) - bias).tolist()
    return min(1.0, 2 * lower, 2 * (1 - upper))


def _bias(units: _Units, drawn: Float64[Tensor, " resamples"]) -> Float64[Tensor, ""]:
    """Return the normal quantile of the share of resamples below the estimate; ties count half."""
    value = _estimate(units).mean()
    share = (drawn < value).double().mean() + 0.5 * (drawn == value).double().mean()
    return _quantile(share, len(drawn))


def _quantile(share: Tensor, resamples: int) -> Tensor:
    rare = 1 / (2 * resamples)
    return torch.special.ndtri(share.clamp(rare, 1 - rare))


def _skewness(units: _Units) -> Float64[Tensor, ""]:
    """Return the acceleration: a sixth of the skewness of the units' influences on the figure.

    They are the jackknife's in closed form, for means within strata.
    """
    stratum = torch.arange(len(units.sizes)).repeat_interleave(units.sizes)
    totals = torch.zeros_like(units.sizes, dtype=torch.float64).index_add(0, stratum, units.counts)
    influence = (units.sums - _estimate(units)[stratum] * units.counts) / totals[stratum]
    spread = influence.square().sum() ** 1.5
    return influence.pow(3).sum() / (6 * spread) if spread > 0 else spread


def _unanimous(value: float, units: _Units, plan: Bootstrap) -> Interval:
    # For a mean over classes, as if each had no more units than the smallest: never too narrow.
    trials = int(units.sizes.min()) * len(units.sizes)
    bound = ((1 - plan.level) / 2) ** (1 / trials)
    low, high = (bound, 1.0) if value else (0.0, 1 - bound)
    return Interval(value, low, high, plan.level, len(units.sums), 0, plan.seed, EXACT)
