"""Which weight decay is best: the search of CLIP_benchmark's linear probes, over 97 values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

DECAYS: tuple[float, ...] = tuple(np.logspace(-6, 2, num=97).tolist())
FIRST_DECAYS = range(0, len(DECAYS), 16)
"""Numbers of the values that the search tries first."""
FIRST_STRIDE = 8


def search(score: Callable[[int], float], found: dict[int, float]) -> int:
    """Return the number of the best weight decay; `found` is filled with all scores.

    The first round's best, then its neighbours at strides of 8, 4, 2 and 1. Of equal scores the
    first tried wins, so that a smaller decay is preferred to the best so far.
    """

    def best_of(numbers: Sequence[int]) -> int:
        best, most = 0, 0.0
        for n in numbers:
            if n not in found:
                found[n] = score(n)
            if found[n] > most:
                best, most = n, found[n]
        return best

    best = best_of(FIRST_DECAYS)
    stride = FIRST_STRIDE
    while stride:
        best = best_of([max(best - stride, 0), best, min(best + stride, len(DECAYS) - 1)])
        stride //= 2
    return best
