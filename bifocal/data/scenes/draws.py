"""A stream of random draws that is a pure function of (seed, stream, index).

Knows: how a counter becomes numbers. Must not know: what they decide. The generator is Philox
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), read through its raw 64-bit
words because NumPy promises those, and not its distributions, to be stable across versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

T = TypeVar("T")

_BLOCK = 64
_UNIT = 2.0**-53


class Draws:
    """Draws of sample `index`; independent of every other (seed, stream, index).

    Args:
        seed: 0 to 2**64 - 1, the user's.
        stream: 0 to 2**64 - 1, one a purpose, so that splits never share a draw.
        index: 0 to 2**64 - 1, the sample.
    """

    __slots__ = ("_block", "_words")

    def __init__(self, seed: int, stream: int, index: int) -> None:
        # The index sits in the counter's second word; the first is left to count the blocks.
        # int() because a NumPy integer shifted by 64 is silently 0.
        self._words = np.random.Philox(key=int(seed) | stream << 64, counter=int(index) << 64)
        self._block: list[int] = []

    def _next(self) -> int:
        if not self._block:
            self._block = self._words.random_raw(_BLOCK).tolist()
        return self._block.pop()

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self._next() >> 11) * _UNIT)

    def below(self, count: int) -> int:
        """Return an integer from 0 to count - 1."""
        return (self._next() >> 32) * count >> 32

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return (self._next() >> 11) * _UNIT < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[(self._next() >> 32) * len(options) >> 32]

    def lattice(self, side: int) -> Float32[np.ndarray, "side side"]:
        """Return whole numbers from 0 to 255 on a square lattice."""
        words = self._words.random_raw(side * side) >> np.uint64(56)
        return words.astype(np.float32).reshape(side, side)
