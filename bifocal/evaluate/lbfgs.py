"""L-BFGS: a smooth convex function is minimised from its values and gradients.

Nocedal & Wright 2006, algorithms 7.4 and 7.5. Knows vectors; knows nothing of what they mean.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

HISTORY = 10
NOISE = 1e-7
"""Relative difference of two values that float32 products cannot tell from none."""
SHORTENINGS = 30

STEADY = 4
"""Steps in a row that must foresee no more progress."""


@dataclass(frozen=True, slots=True)
class Local:
    """A function at one point.

    Attributes:
        value: of the function.
        gradient: of the function.
        curvature: about the diagonal of the Hessian; broadcasts to the gradient.
        scale: what a distance from the minimum is measured against.
    """

    value: float
    gradient: Float64[Tensor, "*shape"]
    curvature: Float64[Tensor, "*broadcast"]
    scale: float


Evaluate = Callable[[Tensor], Local]
Pairs = deque[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where a search ended."""

    point: Float64[Tensor, "*shape"]
    value: float
    iterations: int
    converged: bool


def minimise(
    evaluate: Evaluate, start: Float64[Tensor, "*shape"], *, max_iterations: int, tolerance: float
) -> Minimum:
    """Minimise a smooth, strictly convex, positive function by L-BFGS.

    The search has converged when the fall that a Newton step would bring, ½ gᵀ H g with the
    inverse Hessian H that L-BFGS has learned, is small for several steps in a row.

    Args:
        evaluate: what the function is like at a point.
        start: the first point.
        max_iterations: steps at most.
        tolerance: foreseen fall that is small, as a share of the point's scale.

    A step of length 1 is tried first and shortened until the value falls enough. Strict convexity
    makes the curvature along any step positive, which is what Wolfe's second condition is for.
    """
    point, here = start, evaluate(start)
    pairs: Pairs = deque(maxlen=HISTORY)
    steady = 0
    for iteration in range(max_iterations):
        step = _direction(here, pairs)
        slope = (here.gradient * step).sum().item()
        steady = steady + 1 if -0.5 * slope <= tolerance * here.scale else 0
        if steady == STEADY or slope == 0:
            return Minimum(point, here.value, iteration, True)
        found = _line_search(evaluate, point, step, here.value, slope)
        if found is None:
            return Minimum(point, here.value, iteration, steady > 0)
        step, there = found
        change = there.gradient - here.gradient
        if (step * change).sum() > 0:
            pairs.append((step, change))
        point, here = point + step, there
    return Minimum(point, here.value, max_iterations, False)


def _direction(here: Local, pairs: Pairs) -> Tensor:
    """Return -H · gradient for the inverse Hessian H that the curvature and the pairs tell of."""
    q = here.gradient.clone()
    taken: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for step, change in reversed(pairs):
        rho = 1 / (step * change).sum()
        alpha = rho * (step * q).sum()
        q -= alpha * change
        taken.append((step, change, rho, alpha))
    q /= here.curvature
    if pairs:
        step, change = pairs[-1]
        q *= (step * change).sum() / (change.square() / here.curvature).sum()
    for step, change, rho, alpha in reversed(taken):
        q += (alpha - rho * (change * q).sum()) * step
    return -q


def _line_search(
    evaluate: Evaluate, point: Tensor, step: Tensor, value: float, slope: float
) -> tuple[Tensor, Local] | None:
    """Return the step, shortened until it serves, and what stands there; None if none serves.

    Near the minimum values differ by less than their rounding; there the slope decides, as in
    Hager & Zhang 2005, section 2.
    """
    length = 1.0
    for _ in range(SHORTENINGS):
        found = evaluate(point + length * step)
        fallen = found.value <= value + 1e-4 * length * slope
        level = found.value <= value * (1 + NOISE)
        if fallen or (level and abs((found.gradient * step).sum().item()) <= -0.9 * slope):
            return length * step, found
        # The parabola through both values with the slope at zero; kept within (0.1, 0.5) of it.
        excess = found.value - value - length * slope
        best = -0.5 * slope * length / excess if math.isfinite(excess) else 0.1
        length *= min(max(best, 0.1), 0.5)
    return None
