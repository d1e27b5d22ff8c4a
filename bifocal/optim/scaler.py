"""Loss scaling for float16: gradients are computed larger than they are, and divided again.

float16 has no number below 2⁻²⁴, where many gradients of activations lie (Micikevicius et al.
2018). bifocal begins the backward pass at the gradients of the features, so these are what is
multiplied. A step whose gradients overflow is left out and the scale is halved; after enough good
steps it is doubled. All scales are powers of two, so scaling costs no precision, and the state is
two numbers that depend on nothing but which steps were finite.

Knows gradients; knows nothing of models, losses or devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bifocal.errors import CheckpointError, ConfigError
from bifocal.optim.spread import local

SMALLEST, LARGEST = 1.0, 2.0**24


class LossScaler:
    """A dynamic scale.

        seeds = seeds · scaler.scale;  backward;  scaler.unscale_(parameters)
        finite = …;  optimizer.step() if finite;  scaler.update(finite)

    Args:
        scale: the first one, a power of two from 1 to 2²⁴.
        patience: finite steps in a row after which the scale is doubled.

    Raises:
        ConfigError: the scale is another number, or the patience is not positive.
    """

    def __init__(self, scale: float = 2.0**16, patience: int = 2000) -> None:
        if not _allowed(scale):
            raise ConfigError(f"loss scale {scale}: expected a power of two from 1 to 2^24")
        if patience < 1:
            raise ConfigError(f"patience {patience} of the loss scale: expected at least 1 step")
        self.scale = scale
        self.patience = patience
        self.good_steps = 0

    @property
    def can_shrink(self) -> bool:
        """Whether a smaller scale may mend an overflow: at 1, nothing is scaled any more."""
        return self.scale > SMALLEST

    @torch.no_grad()
    def unscale_(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients of `parameters` by the scale, in place.

        Exact, except where a float16 gradient becomes subnormal.
        """
        grads = [local(p.grad) for p in parameters if p.grad is not None]
        if grads and self.scale != 1:
            torch._foreach_mul_(grads, 1 / self.scale)  # pyright: ignore[reportPrivateImportUsage]

    def update(self, finite: bool) -> None:
        """Move the scale after a step.

        Args:
            finite: whether all gradients were; if not, the step must have been left out.
        """
        if not finite:
            self.scale, self.good_steps = max(self.scale / 2, SMALLEST), 0
            return
        self.good_steps += 1
        if self.good_steps >= self.patience:
            self.scale, self.good_steps = min(2 * self.scale, LARGEST), 0

    def state(self) -> dict[str, float]:
        """Return what a checkpoint must hold."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load(self, state: Mapping[str, float]) -> None:
        """Take over what `state` gave.

        Raises:
            CheckpointError: these are not a scale and a count.
        """
        scale, steps = state.get("scale", math.nan), state.get("good_steps", -1)
        if not _allowed(scale) or steps < 0 or steps != int(steps):
            raise CheckpointError(
                f"the state of the loss scale is {dict(state)}: expected a 'scale' that is a power "
                "of two from 1 to 2^24, and 'good_steps' from 0"
            )
        self.scale, self.good_steps = float(scale), int(steps)


def _allowed(scale: float) -> bool:
    return SMALLEST <= scale <= LARGEST and math.frexp(scale)[0] == 0.5
