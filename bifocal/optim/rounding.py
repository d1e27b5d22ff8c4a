"""Stochastic rounding of float32 to bfloat16 and float16, with noise that can be replayed.

A value between two neighbours of the shorter format goes up with a probability equal to the part
of the way that it has gone, so that the mean over the noise is the value itself; to nearest, an
average that moves by less than half a step never moves at all (Gupta et al. 2015).

The noise is a pure function of (tensor's name, what is rounded, step, element): one deck of the
numbers 0 … 65,535, shuffled once and for all, serves every block of 65,536 elements, cut at a place
that SHAKE-128 draws for that tensor, step and block. Hence every rank and device draws the same
bits and a resumed run draws them again; over the steps the bits of an element are uniform and
independent, and over a whole block every value comes up equally often. Drawing costs no arithmetic.

Knows bits; knows nothing of optimizers. `plain_noise` and `plain_round` are the readable twins.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.transfer import sent

BLOCK = 2**16
DROPPED = {torch.bfloat16: 16, torch.float16: 13}
"""Bits of a float32 that the format does not keep."""

# Multiplied by this, float16's subnormal numbers become float32's: one bit mask then serves all.
_FLOAT16_TO_BOTTOM = 2.0**-112


class Noise:
    """The random bits of one tensor at one step.

    Args:
        name: of the tensor, the same in every process and every run.
        step: of the optimizer.
        count: elements of the tensor.
    """

    def __init__(self, name: str, step: int, count: int) -> None:
        self._seed = f"{name}/{step}"
        self._blocks = math.ceil(count / BLOCK)
        self._cuts: dict[str, np.ndarray] = {}

    def bits(
        self, kind: str, begin: int, end: int, dtype: torch.dtype, device: torch.device
    ) -> Int[Tensor, " elements"]:
        """Return one integer below 2ⁿ an element, n the bits that `dtype` drops; not to be written.

        Args:
            kind: what of the tensor is rounded; each kind has its own noise.
            begin: first element, in the order of storage.
            end: after the last.
        """
        cuts, cards = self.cuts(kind), deck(DROPPED[dtype], device)
        if device.type != "cpu":  # one kernel for all blocks
            first, last = begin // BLOCK, math.ceil(end / BLOCK)
            wanted = sent(torch.from_numpy(cuts[first:last].astype(np.int64)), device)
            hands = cards.as_strided((BLOCK, BLOCK), (1, 1)).index_select(0, wanted).flatten()
            return hands[begin - first * BLOCK : end - first * BLOCK]
        hands = []
        for block in range(begin // BLOCK, math.ceil(end / BLOCK)):
            zero = int(cuts[block]) - block * BLOCK
            low, high = max(begin, block * BLOCK), min(end, (block + 1) * BLOCK)
            hands.append(cards[zero + low : zero + high])
        return hands[0] if len(hands) == 1 else torch.cat(hands)

    def cuts(self, kind: str) -> np.ndarray:
        """Return the place, uint16, at which the deck is cut for every block of the tensor."""
        if kind not in self._cuts:
            stream = hashlib.shake_128(f"{kind}/{self._seed}".encode()).digest(2 * self._blocks)
            self._cuts[kind] = np.frombuffer(stream, "<u2")
        return self._cuts[kind]


def stochastic_round(
    values: Float[Tensor, "*shape"], dtype: torch.dtype, noise: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return float32 values in `dtype`, each one of its two neighbours there.

    Up if low + noise ≥ 2ⁿ, where low are the n bits that are dropped. Values that the format holds
    stay, zeros, infinities and NaN with them; beyond the largest finite number lies infinity, as
    in a cast. Below 2⁻¹⁴, where float16 keeps fewer bits than n, the value is first brought to the
    nearest multiple of 2⁻³⁷.

    Args:
        values: float32.
        dtype: bfloat16 or float16.
        noise: `Noise.bits`, uniform below 2ⁿ.

    Raises:
        ConfigError: `dtype` is another one.
    """
    return round_(values.clone(), dtype, noise).to(dtype)


def round_(
    values: Float[Tensor, "*shape"],
    dtype: torch.dtype,
    noise: Int[Tensor, "*shape"],
    scale: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Put `scale` · values in place to numbers that `dtype` holds, see `stochastic_round`."""
    if dtype not in DROPPED:
        raise ConfigError(f"rounding to {dtype}: expected torch.bfloat16 or torch.float16")
    for factor in factors(dtype, scale):
        if factor != 1:
            values.mul_(factor)
    # NaN of all ones, as CUDA and a cast from float16 write it, would carry over into the sign.
    values.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=-math.inf)
    values.view(torch.int32).add_(noise).bitwise_and_(-(2 ** DROPPED[dtype]))
    return values.mul_(1 / _FLOAT16_TO_BOTTOM) if dtype == torch.float16 else values


def factors(dtype: torch.dtype, scale: float) -> tuple[float, float]:
    """Return what to multiply by, in turn, before bits are dropped: a product if it is normal."""
    shift = _FLOAT16_TO_BOTTOM if dtype == torch.float16 else 1.0
    once = scale * shift >= torch.finfo(torch.float32).tiny
    return (scale * shift, 1.0) if once else (scale, shift)


def plain_noise(name: str, step: int, kind: str, element: int, dtype: torch.dtype) -> int:
    """Return what `Noise.bits` holds for one element."""
    block, place = divmod(element, BLOCK)
    stream = hashlib.shake_128(f"{kind}/{name}/{step}".encode()).digest(2 * block + 2)
    card = (int.from_bytes(stream[-2:], "little") + place) % BLOCK
    return int(deck(16, torch.device("cpu"))[card]) >> (16 - DROPPED[dtype])


def plain_round(value: float, dtype: torch.dtype, noise: int) -> float:
    """Return one value as `stochastic_round` rounds it, by its neighbours."""
    if value == 0 or not math.isfinite(value):
        return value
    info, levels = torch.finfo(dtype), 2 ** DROPPED[dtype]
    quantum = math.ldexp(info.eps, max(math.frexp(value)[1] - 1, math.frexp(info.tiny)[1] - 1))
    steps = round(abs(value) / quantum * levels)  # whole already, but for float16's subnormals
    rounded = (steps + noise) // levels * quantum
    return math.copysign(rounded if rounded <= info.max else math.inf, value)


@functools.cache
def deck(bits: int, device: torch.device) -> Int[Tensor, " twice_block"]:
    """Return the highest bits of the shuffled numbers below BLOCK, twice in a row, as int32."""
    stream = hashlib.shake_128(b"bifocal.optim.rounding").digest(8 * BLOCK)
    shuffled = np.argsort(np.frombuffer(stream, "<i8"), kind="stable") >> (16 - bits)
    return torch.from_numpy(np.tile(shuffled.astype(np.int32), 2)).to(device)
