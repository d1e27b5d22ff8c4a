"""What an experiment found of one claim, and the rule that turns it into a verdict.

A comparison is a difference between two kinds of runs, one value a seed: both runs of a seed began
at the same weights (where the shapes are the same) and saw the same pairs in the same order, so
what is common to them cancels. The verdict follows from the 95 % interval of the mean difference
(Student's t over the seeds) and from what the paper would have it be; nobody types it in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t

LEVEL = 0.95
MOST_SEEDS = 100
"""More runs than this are no advice."""

REPRODUCED, IN_PART = "reproduced", "reproduced in part"
NOT, WEAK = "not reproduced at this size", "too weak to tell"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with the interval that holds the true one."""

    value: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Half the interval, to be drawn; 0 where there is none."""
        return (self.high - self.low) / 2 if math.isfinite(self.high) else 0.0


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean and its 95 % interval by Student's t; without bounds of a single value.

    Args:
        values: one a seed.
    """
    if not values:
        return Mean(math.nan, -math.inf, math.inf)
    centre = float(np.mean(values))
    if len(values) < 2:
        return Mean(centre, -math.inf, math.inf)
    reach = _reach(values, len(values))
    return Mean(centre, centre - reach, centre + reach)


def _reach(values: Sequence[float], seeds: int) -> float:
    """Return half the interval's length, were these values' spread that of so many seeds."""
    spread = float(np.std(values, ddof=1))
    return float(t.ppf((1 + LEVEL) / 2, seeds - 1)) * spread / math.sqrt(seeds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One difference that the paper says something about.

    Attributes:
        what: the difference, in words: "A − B".
        paper: what the paper found, in words.
        unit: of the values; "times" for ratios, whose values are base-2 logarithms.
        values: one a seed, of runs with the same seed.
        expected: "above" if the paper would have the difference above `bound`, "same" if within
            `bound` of zero either way.
        bound: in the unit.
        censored: whether some values are only bounds of the true ones, on the side of zero.
    """

    what: str
    paper: str
    unit: str
    values: tuple[float, ...]
    expected: Literal["above", "same"] = "above"
    bound: float = 0.0
    censored: bool = False

    @property
    def mean(self) -> Mean:
        """The mean difference and its interval."""
        return mean_of(self.values)

    @property
    def verdict(self) -> str:
        """Reproduced if the whole interval is where the paper would have it, not reproduced if the
        whole interval is outside, too weak to tell otherwise; so are fewer than three seeds."""
        low, high = self.mean.low, self.mean.high
        if len(self.values) < 3:
            return WEAK
        if self.expected == "above":
            return REPRODUCED if low > self.bound else NOT if high < self.bound else WEAK
        if -self.bound <= low and high <= self.bound:
            return REPRODUCED
        return NOT if low > self.bound or high < -self.bound else WEAK

    def seeds_needed(self) -> int | None:
        """Return how many seeds would decide, if mean and spread stayed as they are.

        None if more than `MOST_SEEDS`, if no difference was seen, or of fewer than three seeds.
        """
        if len(self.values) < 3:
            return None
        centre = self.mean.value
        distance = abs(
            centre - self.bound if self.expected == "above" else abs(centre) - self.bound
        )
        enough = (n for n in range(2, MOST_SEEDS + 1) if _reach(self.values, n) < distance)
        return next(enough, None)


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of a claim's table: one quantity of every arm, one value a seed."""

    name: str
    values: Mapping[str, tuple[float, ...]]
    decimals: int = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, and what our runs say of it.

    Attributes:
        name: of the experiment.
        title: the claim in a few words.
        where: section, table or figure of the paper.
        paper: what the paper reports, in our words, with its numbers.
        here: what was run instead.
        measures: figures of all arms.
        comparisons: what the verdict follows from.
        figure: what the figure shows, for those who cannot see it.
        larger: which size could tell more.
        note: how the result is read at this size; written by people, with the sizes.
        effort: the trainings behind it, in words.
        command: that makes it again.
    """

    name: str
    title: str
    where: str
    paper: str
    here: str
    measures: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]
    figure: str
    larger: str
    note: str = ""
    effort: str = ""
    command: str = ""

    @property
    def verdict(self) -> str:
        """Of all comparisons together."""
        found = {one.verdict for one in self.comparisons}
        if found == {REPRODUCED}:
            return REPRODUCED
        if REPRODUCED in found:
            return IN_PART
        return NOT if NOT in found else WEAK

    def to_table(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Claim:
        """Return the claim of a table that `to_table` made and JSON held."""
        measures = tuple(
            Measure(one["name"], {k: tuple(v) for k, v in one["values"].items()}, one["decimals"])
            for one in table["measures"]
        )
        comparisons = tuple(
            Comparison(**{**one, "values": tuple(one["values"])}) for one in table["comparisons"]
        )
        return cls(**{**table, "measures": measures, "comparisons": comparisons})


def paired(left: Sequence[float], right: Sequence[float], scale: float = 1.0) -> tuple[float, ...]:
    """Return left less right, seed by seed, times a scale (100 for points of shares)."""
    return tuple(scale * (a - b) for a, b in zip(left, right, strict=True))
