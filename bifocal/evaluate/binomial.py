"""Exact bounds and tails of a share: k of n independent examples are right."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from bifocal.errors import DataError
from bifocal.evaluate.statistics import EXACT, Interval

BISECTIONS = 60


def at_least(right: int, trials: int, rate: float) -> float:
    """Return P[Binomial(trials, rate) ≥ right], summed over the smaller tail."""
    if right <= 0:
        return 1.0
    if not 0 < rate < 1:
        return float(rate >= 1)
    if right > trials * rate:
        return _mass(right, trials, trials, rate)
    return 1 - _mass(0, right - 1, trials, rate)


def clopper_pearson(right: int, trials: int, level: float = 0.95) -> Interval:
    """Return the share of right examples with its exact interval (Clopper & Pearson 1934).

    The bounds are the rates at which so many or more, or so few or fewer, have (1 - level) / 2.

    Raises:
        DataError: there is no example.
    """
    if not trials:
        raise DataError("no example: there is nothing to estimate")
    outside = (1 - level) / 2
    low = _root(lambda rate: at_least(right, trials, rate) < outside) if right else 0.0
    high = 1.0
    if right < trials:
        high = _root(lambda rate: 1 - at_least(right + 1, trials, rate) > outside)
    return Interval(right / trials, low, high, level, trials, 0, 0, EXACT)


def _root(below: Callable[[float], bool]) -> float:
    """Return the rate at which a condition that holds below it ends."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def _mass(first: int, last: int, trials: int, rate: float) -> float:
    k = torch.arange(first, last + 1, dtype=torch.float64)
    log_ways = math.lgamma(trials + 1) - (k + 1).lgamma() - (trials - k + 1).lgamma()
    logs = log_ways + k * math.log(rate) + (trials - k) * math.log1p(-rate)
    return min(1.0, logs.exp().sum().item())
