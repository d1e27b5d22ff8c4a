"""Which strength of a penalty is best: the search of the paper's linear probes.

Radford et al. 2021, appendix A.3, "parametric binary search": the candidates are 96 steps between
1e-6 and 1e6, equal in the logarithm. Exponents -6, -4, … 6 come first, then the middles beside the
best so far, at strides of 1, ½, ¼ and ⅛ of a decade. The paper gives this range for λ; it is the
same for C = 1 / λ. Of equal scores the smallest C wins, the stronger penalty.
"""

from __future__ import annotations

from collections.abc import Callable

STEPS_PER_DECADE = 8
STEPS = 12 * STEPS_PER_DECADE
FIRST_STRIDE = 2 * STEPS_PER_DECADE


def sweep(score: Callable[[float], float]) -> dict[float, float]:
    """Return the scores of the values of C that the search tries, in rising order of C."""
    found = {step: score(_strength(step)) for step in range(0, STEPS + 1, FIRST_STRIDE)}
    stride = FIRST_STRIDE
    while stride > 1:
        stride //= 2
        best = max(found, key=lambda step: (found[step], -step))
        for step in (best - stride, best + stride):
            if 0 <= step <= STEPS and step not in found:
                found[step] = score(_strength(step))
    return {_strength(step): found[step] for step in sorted(found)}


def best_strength(scores: dict[float, float]) -> float:
    """Return the C of the highest score, the smallest of equals."""
    return max(scores, key=lambda c: (scores[c], -c))


def _strength(step: int) -> float:
    return 10 ** (step / STEPS_PER_DECADE - 6)
