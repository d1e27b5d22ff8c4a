"""What a bootstrap draws: examples, or groups of them, within classes.

A *unit* is an example, or all examples that share a group (the captions of one picture are not
independent). Units are drawn within their class where a figure is a mean over classes, since test
sets fix how many each class has; and the deviations of a class of n units are scaled by
√(n / (n - 1)), without which resampling understates the variance of classes of a few examples by
half or more (Rao & Wu 1988). Where the examples of each class agree, draws within classes show no
spread at all; units are then drawn over all classes, each weighted so that the mean over them is
the mean over classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from bifocal.errors import ConfigError, DataError

SAME = 1e-12
"""Between two resamples: as good as none."""
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
class Units:
    """Sums and counts of examples by unit, the units of a stratum side by side."""

    sums: Float64[Tensor, " units"]
    counts: Float64[Tensor, " units"]
    sizes: Int[Tensor, " strata"]
    range: tuple[float, float] | None = None
    """Of the examples' figures, where sums are weighted."""


def gather(values: Tensor, groups: Tensor | None, classes: Tensor | None) -> Units:
    """Return the units of examples.

    Raises:
        DataError: there is no example.
        ConfigError: a group has examples of several classes.
    """
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
    return Units(values[order], ones[order], torch.bincount(stratum))


def _by_unit(part: Tensor, unit: Tensor, units: int, way: str) -> Tensor:
    return part.new_zeros(units).scatter_reduce(0, unit, part, way, include_self=False)


def means(sums: Tensor, counts: Tensor, sizes: Tensor) -> Float64[Tensor, "rows strata"]:
    """Return Σ sums / Σ counts of each row's strata, which are `sizes` long."""
    ends = sizes.cumsum(0) - 1
    totals = [part.cumsum(dim=1)[:, ends] for part in (sums, counts)]
    top, bottom = (part.diff(dim=1, prepend=part.new_zeros(len(part), 1)) for part in totals)
    return top / bottom


def estimate(units: Units) -> Float64[Tensor, " strata"]:
    """Return the mean of each stratum."""
    return means(units.sums[None], units.counts[None], units.sizes)[0]


def resampled(units: Units, plan: Bootstrap) -> Float64[Tensor, " resamples"]:
    """Return the figure of every resample, units drawn within their stratum.

    Raises:
        DataError: there is one unit only.
    """
    total = len(units.sums)
    if total < 2:
        raise DataError("one picture or example only: an interval needs two at least")
    own = estimate(units)
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
        found = means(units.sums[drawn], units.counts[drawn], units.sizes)
        parts.append((own + widen * (found - own)).mean(dim=1))
    return torch.cat(parts)


def spread(units: Units, plan: Bootstrap) -> tuple[Units, Float64[Tensor, " resamples"]]:
    """Return resamples and what was drawn: units within strata, or over all if those agree."""
    drawn = resampled(units, plan)
    if len(units.sizes) == 1 or float(drawn.max() - drawn.min()) > SAME:
        return units, drawn
    stratum = torch.arange(len(units.sizes)).repeat_interleave(units.sizes)
    totals = torch.zeros(len(units.sizes), dtype=torch.float64)
    totals = totals.index_add(0, stratum, units.counts)[stratum]
    total = units.sizes.sum()
    weighted = units.sums / totals * total / len(units.sizes)
    each = units.sums / units.counts
    pooled = Units(
        weighted,
        torch.ones_like(weighted),
        total[None],
        (float(each.min()), float(each.max())),
    )
    return pooled, resampled(pooled, plan)
