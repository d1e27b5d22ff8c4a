"""Is one model more often right than another: McNemar's exact test.

Knows right and wrong; knows nothing of models or pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from bifocal.errors import DataError


@dataclass(frozen=True, slots=True)
class McNemar:
    """Examples that only one of two models has right; `p_value` is exact and two-sided."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Bool[Tensor, " examples"], second: Bool[Tensor, " as_many"]) -> McNemar:
    """Return the exact test that two models are equally often right (McNemar 1947).

    Of the n examples that only one of them has right, the first has as many as a fair coin gives:
    p = 2 · P[Binomial(n, ½) ≤ the smaller number], at most 1. Examples must be independent: for
    several captions a picture, use `paired_difference` with groups.

    Raises:
        DataError: the examples are not equally many.
    """
    check_pairs(first, second)
    only_first = int((first & ~second).sum())
    only_second = int((~first & second).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    k = torch.arange(fewer + 1, dtype=torch.float64)
    log_ways = math.lgamma(total + 1) - (k + 1).lgamma() - (total - k + 1).lgamma()
    tail = (log_ways - total * math.log(2)).exp().sum().item()
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def check_pairs(first: Tensor, second: Tensor) -> None:
    """Raise DataError unless both are of equally many examples."""
    if len(first) != len(second):
        raise DataError(
            f"{len(first)} examples of the first model, {len(second)} of the second: they are "
            "compared on the same examples in the same order"
        )
