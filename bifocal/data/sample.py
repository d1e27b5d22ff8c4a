"""What one training example is, and what anything that serves examples must offer.

Knows: the shape of a sample and of a source. Must not know: where samples come from (folders,
tar shards, the built-in scenes) or what becomes of them (decoding, batching, training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with the texts that describe it, or with a class label, or with both.

    Attributes:
        key: unique within the source.
        image: an encoded picture (JPEG, PNG, …), uint8 "height width 3", or what stands for it:
            float32 "embed_dim", features that a locked tower has given.
        captions: at least one unless the sample has only a label.
        label: index into the source's `class_names`, or None.
    """

    key: str
    image: bytes | np.ndarray
    captions: tuple[str, ...]
    label: int | None


@runtime_checkable
class Source(Protocol):
    """Samples by index; reading is free of side effects and safe from any thread.

    Attributes:
        identity: hash (hex) of everything that determines the content.
        shard_sizes: samples a shard, in order; sums to len(self).
        class_names: what labels mean; empty when samples carry no label.
    """

    identity: str
    shard_sizes: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Return sample `index`, 0 <= index < len(self)."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index` without reading its picture."""
        ...

    def place(self, index: int) -> str:
        """Return where sample `index` lies (a shard, a table), as messages name it."""
        ...
