"""Which sample stands at which position of a run: a pure function.

`position -> index` is a keyed permutation of (data identity, seed, epoch): shards are permuted,
and positions are permuted again in windows, so that any position is found without walking to it
and a window's reads stay in a few shards. The state of the data is one integer, the same for
every number of ranks and threads. Knows sizes only; reads nothing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from bifocal.data.sample import Source
from bifocal.errors import DataError
from bifocal.inputs.preprocess import Draw

WINDOW = 1 << 16
RECENT = 8
"""Windows whose order is held: those that the threads of one rank are reading."""
_WORDS = struct.Struct("<5Q")


@runtime_checkable
class Foresighted(Protocol):
    """A source that reads ahead."""

    def expect(self, shards: Sequence[int]) -> None:
        """Be told which shards are read next, in order."""
        ...


class Plan:
    """The order of a source under a seed.

    A position costs one search among the shards, and a permutation of its window when that is not
    among the recent ones; memory is a few numbers a shard and the recent windows, whatever the
    number of samples.

    Args:
        source: what is ordered; only its identity and shard sizes are read. One that reads ahead
            is told the shards of a window, and of the next, when the window begins.
        seed: of the order and of every draw.
        shuffle: false leaves the source's own order, for evaluation.
        window: positions that are permuted together.

    Raises:
        DataError: the source is empty.
    """

    def __init__(
        self, source: Source, seed: int, shuffle: bool = True, window: int = WINDOW
    ) -> None:
        self.identity = source.identity
        self.size = len(source)
        self.shuffle = shuffle
        self._foresighted = source if isinstance(source, Foresighted) else None
        self._sizes = np.asarray(source.shard_sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._window = window
        self._key = hashlib.sha256(f"{source.identity}/{seed}".encode()).digest()
        self._shard_order = lru_cache(2)(self._permute_shards)
        self._window_order = lru_cache(RECENT)(self._permute_window)
        if not self.size:
            raise DataError("the data hold no sample: check the path, and that captions are there")
        assert self._sizes.sum() == self.size, "shard sizes and length disagree"

    def index(self, position: int) -> int:
        """Return the source index of the sample at `position`, counted from the run's start."""
        epoch, place = divmod(position, self.size)
        if not self.shuffle:
            return place
        window, offset = divmod(place, self._window)
        place = window * self._window + int(self._window_order(epoch, window)[offset])
        shards, starts = self._shard_order(epoch)
        n = int(np.searchsorted(starts, place, side="right")) - 1
        return int(self._starts[shards[n]] + place - starts[n])

    def substitute(self, position: int, attempt: int) -> int:
        """Return another source index for a position whose own sample is bad.

        It is one of the next window: those shards are read soon, and its samples stand in no batch
        of this one.
        """
        epoch, place = divmod(position, self.size)
        first = (place // self._window + 1) * self._window
        if first >= self.size:
            epoch, first = epoch + 1, 0
        length = min(self._window, self.size - first)
        offset = int(self._uniform("substitute", position, attempt)[0] * length)
        return self.index(epoch * self.size + first + offset)

    def draw(self, position: int) -> Draw:
        """Return the random numbers of the sample at `position`."""
        return Draw(*self._uniform("draw", position, 0))

    def _uniform(self, purpose: str, position: int, attempt: int) -> list[float]:
        """Return five numbers in [0, 1) from a hash of their arguments and the key."""
        message = f"{purpose}/{position}/{attempt}".encode()
        digest = hashlib.blake2b(message, key=self._key, digest_size=40).digest()
        return [(word >> 11) * 2.0**-53 for word in _WORDS.unpack(digest)]

    def _generator(self, *parts: object) -> np.random.Generator:
        message = "/".join(map(str, parts)).encode()
        digest = hashlib.blake2b(message, key=self._key, digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def _permute_shards(
        self, epoch: int
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        shards = self._generator("shards", epoch).permutation(len(self._sizes))
        sizes = self._sizes[shards]
        return shards, np.cumsum(sizes) - sizes

    def _shards_of(self, epoch: int, first: int) -> list[int]:
        """Return the shards of the window that begins at a place, in order."""
        shards, starts = self._shard_order(epoch)
        last = min(first + self._window, self.size) - 1
        low, high = np.searchsorted(starts, [first, last], side="right")
        return [int(n) for n in shards[low - 1 : high] if self._sizes[n]]

    def _permute_window(self, epoch: int, window: int) -> Int64[np.ndarray, " n"]:
        length = min(self._window, self.size - window * self._window)
        if self._foresighted is not None:
            following = (window + 1) * self._window
            there = (epoch, following) if following < self.size else (epoch + 1, 0)
            shards = [*self._shards_of(epoch, window * self._window), *self._shards_of(*there)]
            self._foresighted.expect(list(dict.fromkeys(shards)))
        return self._generator("window", epoch, window).permutation(length)
