"""Which sample of which source stands at which position of a run on a mixture.

Positions fall into blocks; in each, every part has its exact share, in an order that is the key's.
A part's positions, counted from the run's start, are those of its own plan: it is walked through
its own epochs at its own pace. Still a pure function of one integer. Reads nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Int32, UInt16

from bifocal.data.mixture import Mixture
from bifocal.data.plan import RECENT, WINDOW, Plan
from bifocal.data.sample import Source


class MixedPlan(Plan):
    """The order of a mixture under a seed.

    Args:
        source: the mixture; of its parts, only identities and sizes are read.
        seed: of the order and of every draw.
        window: positions of a part that are permuted together.
    """

    def __init__(self, source: Mixture, seed: int, window: int = WINDOW) -> None:
        super().__init__(source, seed, window=window)
        self._parts = [Plan(part, seed, window=window) for part in source.sources]
        self._part_starts = source.starts
        self._block = source.block
        self._shares = np.asarray(source.shares, dtype=np.int32)
        self._block_order = lru_cache(RECENT)(self._lay_block)

    def index(self, position: int) -> int:
        """Return the source index of the sample at `position`, counted from the run's start."""
        part, place = self.part(position)
        return self._part_starts[part] + self._parts[part].index(place)

    def substitute(self, position: int, attempt: int) -> int:
        """Return an index of the same part for a position whose own sample is bad."""
        part, place = self.part(position)
        return self._part_starts[part] + self._parts[part].substitute(place, attempt)

    def part(self, position: int) -> tuple[int, int]:
        """Return which part stands at a position, and which of the part's positions it is."""
        block, offset = divmod(position, self._block)
        parts, ranks = self._block_order(block)
        part = int(parts[offset])
        return part, block * int(self._shares[part]) + int(ranks[offset])

    def _lay_block(self, block: int) -> tuple[UInt16[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
        """Return the part at each offset of a block, and how many of that part stand before."""
        parts = np.repeat(np.arange(len(self._shares), dtype=np.uint16), self._shares)
        parts = self._generator("block", block).permutation(parts)
        ranks = np.empty(self._block, dtype=np.int32)
        ranks[np.argsort(parts, kind="stable")] = np.concatenate(
            [np.arange(share, dtype=np.int32) for share in self._shares]
        )
        return parts, ranks


def plan_of(source: Source, seed: int) -> Plan:
    """Return the order of a source under a seed, be it a mixture or not."""
    match source:
        case Mixture():
            return MixedPlan(source, seed)
        case _:
            return Plan(source, seed)
