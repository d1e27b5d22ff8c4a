"""Several sources mixed by weight.

As a source, a mixture is its parts one behind the other; how often each is seen is the plan's
(`bifocal.data.mixed_plan`). Knows shares; knows nothing of order.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from bifocal.data.plan import WINDOW
from bifocal.data.sample import Sample, Source
from bifocal.errors import ConfigError, DataError

BLOCK = WINDOW


class Mixture:
    """Sources one behind the other, each with its share of the positions.

    Its length is the sum of its parts': an epoch of a mixture is that many positions, in which a
    part is seen less than once or more, as its share is smaller or larger than its length's.

    Args:
        sources: the parts.
        weights: one a part, of any scale.
        block: positions among which the parts have exact shares.

    Attributes:
        sources: the parts.
        shares: positions of each part in a block.
        starts: index of each part's first sample.

    Raises:
        ConfigError: there is no part, a weight is not a positive number or less than a position of
            a block, or a part is there twice.
        DataError: a part is empty.
    """

    def __init__(
        self, sources: Sequence[Source], weights: Sequence[float | int], block: int = BLOCK
    ) -> None:
        if not sources:
            raise ConfigError("a mixture of nothing: give each source as {path=…, weight=…}")
        identities = [source.identity for source in sources]
        for n, source in enumerate(sources):
            if not len(source):
                raise DataError(f"source {n + 1} of the mixture holds no sample")
            if identities.index(source.identity) < n:
                raise ConfigError(
                    f"sources {identities.index(source.identity) + 1} and {n + 1} of the mixture "
                    "are the same data: name them once, with the sum of their weights"
                )
        self.sources = tuple(sources)
        self.block = block
        self.shares = apportion(weights, block)
        sizes = [len(source) for source in sources]
        self.starts = tuple(itertools.accumulate(sizes, initial=0))[:-1]
        self.shard_sizes = tuple(n for source in sources for n in source.shard_sizes)
        names = {source.class_names for source in sources}
        # Where the parts' labels mean different things, they mean nothing here.
        self.class_names = names.pop() if len(names) == 1 else ()
        parts = "".join(f"{s.identity}*{n};" for s, n in zip(sources, self.shares, strict=True))
        self.identity = hashlib.sha256(f"mixture of {block}: {parts}".encode()).hexdigest()

    def __len__(self) -> int:
        return self.starts[-1] + len(self.sources[-1])

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: it is damaged.
        """
        source, index = self._part(index)
        sample = source.read(index)
        return sample if self.class_names else replace(sample, label=None)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`."""
        source, index = self._part(index)
        return source.captions(index)

    def place(self, index: int) -> str:
        """Return where sample `index` lies."""
        source, index = self._part(index)
        return source.place(index)

    def _part(self, index: int) -> tuple[Source, int]:
        part = bisect.bisect_right(self.starts, index) - 1
        return self.sources[part], index - self.starts[part]


def apportion(weights: Sequence[float | int], total: int) -> tuple[int, ...]:
    """Return whole shares of `total` as near to the weights as can be (largest remainders).

    Raises:
        ConfigError: a weight is not a positive number, or its share is none.
    """
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ConfigError(f"the weights {list(weights)} of a mixture must be positive numbers")
    exact = [Fraction(weight) for weight in weights]
    ideal = [weight * total / sum(exact) for weight in exact]
    shares = [math.floor(share) for share in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda n: shares[n] - ideal[n])
    for n in by_remainder[: total - sum(shares)]:
        shares[n] += 1
    if not all(shares):
        raise ConfigError(
            f"the weight {weights[shares.index(0)]:g} is less than one position in {total:,} of "
            f"the mixture {list(weights)}: raise it, or leave the source out"
        )
    return tuple(shares)
