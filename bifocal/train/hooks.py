"""What happens around the steps: a hook sees every step and may measure the model.

Hooks observe; only the loop and the step change the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from bifocal.train.state import Run
from bifocal.train.step import StepMetrics

Metrics = Mapping[str, float]


@runtime_checkable
class Hook(Protocol):
    """Called by the loop; each method may do nothing."""

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Follow one finished step."""
        ...

    def on_evaluation(self, run: Run, metrics: Metrics) -> None:
        """Follow one evaluation."""
        ...

    def on_message(self, message: str) -> None:
        """Hear what the user should know."""
        ...


Evaluate = Callable[[Run, bool], Metrics]
"""Measures the model of a run; the flag says whether this is the last time, and whole."""
