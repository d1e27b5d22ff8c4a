"""How AdamW's two averages of a matrix are stored, and what of them fits into 16 bits.

float32     as they are: 8 bytes a parameter.
bfloat16    both stochastically rounded, 4 bytes. It has the range of float32, so nothing under- or
            overflows; its 8 bits leave a noise of 1 % on `exp_avg_sq` at β₂ = 0.98, 4 % at 0.999.
float16     4 bytes, with 11 bits: `exp_avg`, and √`exp_avg_sq`, whose range is half as wide in
            exponents; each over one float32 scale a tensor, stochastically rounded (paper section
            2.5: "half-precision Adam statistics", after Jukebox, Dhariwal et al. 2020). The noise
            is 0.4 % and 2 %.

The scale needs no look at the new averages. It is the same average taken of the gradient's largest
element, divided by 2¹⁵, and therefore bounds every element's average by construction: with
G = max |g|,

    exp_avg:  s ← β₁ s + (1 − β₁) G / 2¹⁵        √exp_avg_sq:  s² ← β₂ s² + (1 − β₂) (G / 2¹⁵)²

so the largest stored number is about 2¹⁵, half of what float16 holds; the other half is room for
noise that happens to round up. Between two steps a tensor is read with the old scale and written
with the new one, and as rounding is unbiased nothing drifts. Full precision reaches down to 2⁻²⁹
of the bound; what is smaller is a multiple of 2⁻³⁹ of it, or zero: far below epsilon unless
gradients are in the thousands.

Knows float32 in and out; knows nothing of the update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.optim.rounding import round_

Statistics = Literal["float32", "bfloat16", "float16"]
State = MutableMapping[str, Tensor]

LARGEST = 2.0**15
"""What the bound of a float16 average is stored as."""
ON_THE_CPU = frozenset({"step", "exp_avg_scale", "exp_avg_sqrt_scale"})
"""Of the state of a parameter: what a step asks the value of, wherever the parameter is."""
SMALLEST_SCALE = 2.0**-100
"""The scale of a tensor that never had a gradient; its square is zero in float32."""


@dataclass(frozen=True, slots=True)
class Storage:
    """One of the formats above.

    `scaled` stores the root of `exp_avg_sq`, and both over their scales.
    """

    dtype: torch.dtype
    scaled: bool = False

    @property
    def kinds(self) -> tuple[str, str]:
        """The names under which both averages are kept."""
        return "exp_avg", "exp_avg_sqrt" if self.scaled else "exp_avg_sq"

    def zeros(self, like: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter before its first step, `step` and scales on the CPU."""
        state = {kind: torch.zeros_like(like, dtype=self.dtype) for kind in self.kinds}
        scales = {f"{kind}_scale": torch.zeros(()) for kind in self.kinds if self.scaled}
        return {"step": torch.zeros(()), **state, **scales}

    def check(self, state: State, name: str) -> None:
        """Raise CheckpointError if the state of the parameter `name` is of another format."""
        second = self.kinds[1]
        if second not in state or state[second].dtype != self.dtype:
            got = ", ".join(f"{kind} {tensor.dtype}" for kind, tensor in state.items())
            raise CheckpointError(
                f"the optimizer's statistics of {name} are {got}; expected {second} "
                f"{self.dtype}: resume with the optim.statistics that the run began with"
            )

    def scales(self, state: State) -> tuple[float, float]:
        """Return the scales of both averages; one where there are none."""
        if not self.scaled:
            return 1.0, 1.0
        first, second = (state[f"{kind}_scale"].item() for kind in self.kinds)
        return first, second

    def rescale(
        self, state: State, peak: float, betas: tuple[float, float]
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Move the scales by one step whose gradient is at most `peak`.

        Returns what to read the averages with, and what to write them with.
        """
        before = self.scales(state)
        if not self.scaled:
            return before, before
        (first, second), top = before, peak / LARGEST
        moved = (
            betas[0] * first + (1 - betas[0]) * top,
            math.sqrt(betas[1] * second**2 + (1 - betas[1]) * top**2),
        )
        for kind, scale in zip(self.kinds, moved, strict=True):
            state[f"{kind}_scale"] = torch.tensor(max(scale, SMALLEST_SCALE))
        return before, self.scales(state)

    def read(
        self, parts: Sequence[Float[Tensor, " elements"]], scales: tuple[float, float]
    ) -> tuple[Float[Tensor, " elements"], Float[Tensor, " elements"]]:
        """Return (exp_avg, exp_avg_sq) in float32 for parts of the state: float32 is not copied."""
        first, second = (part.float() for part in parts)
        if not self.scaled:
            return first, second
        return first.mul_(scales[0]), second.mul_(scales[1]).square_()

    def write(
        self,
        parts: Sequence[Float[Tensor, " elements"]],
        averages: tuple[Float[Tensor, " elements"], Float[Tensor, " elements"]],
        scales: tuple[float, float],
        noise: Callable[..., Tensor],
    ) -> None:
        """Store what `read` gave, moved on; the float32 that is handed in is used up."""
        if self.dtype == torch.float32:
            return
        if self.scaled:
            root_(averages[1])
        for kind, part, average, scale in zip(self.kinds, parts, averages, scales, strict=True):
            part.copy_(round_(average, self.dtype, noise(kind=kind, dtype=self.dtype), 1 / scale))


STORAGES: dict[Statistics, Storage] = {
    "float32": Storage(torch.float32),
    "bfloat16": Storage(torch.bfloat16),
    "float16": Storage(torch.float16, scaled=True),
}


def root_(values: Float[Tensor, " elements"]) -> None:
    """Replace float32 values by the numbers nearest to their roots.

    On a CPU torch leaves roots to MKL, which misses every fifth by a bit on some processors.
    """
    if values.device.type == "cpu":
        array = values.numpy()
        np.sqrt(array, out=array)
    else:
        values.sqrt_()


def in_storage_order(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, " elements"]:
    """Return a flat view of a tensor that fills its memory, channels last or not."""
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
