"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """Linear warm-up, then a half cosine to zero (paper section 2.5).

    Args:
        peak: the highest rate.
        warmup: steps of the warm-up; at step n of it the rate is peak · (n + 1) / warmup.
        total: steps of the run.
    """

    peak: float
    warmup: int
    total: int

    def __call__(self, step: int) -> float:
        """Return the rate of step `step`, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
