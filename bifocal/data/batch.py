"""The pairs of one training step, and their parts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bifocal.transfer import sent
from bifocal.types import Cursor, Sharing


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs as a training step reads them; `cursor` is where the next batch begins."""

    images: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch embed_dim"]
    """Pictures, or the features that stand for them where the image tower is locked."""
    tokens: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]
    """Tokens of each caption, end-of-text included; always on the CPU."""
    keys: tuple[str, ...]
    positions: Int[Tensor, " batch"]
    """Where each pair stands in the run, whatever sample stands there."""
    cursor: Cursor
    samples: tuple[int, ...] = ()
    """Which of the source each is, where it came from one; names may occur in every shard."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors, but for `lengths`, on `device`."""
        return replace(
            self,
            images=sent(self.images, device),
            tokens=sent(self.tokens, device),
            positions=sent(self.positions, device),
        )

    def split(self, size: int) -> list[Batch]:
        """Return the batch in even parts of at most `size` pairs, captions cut to each part's."""
        pairs = len(self.images)
        parts = math.ceil(pairs / size)
        if parts < 2:
            return [self]
        bounds = [n * pairs // parts for n in range(parts + 1)]
        return [self._part(slice(*both)) for both in pairwise(bounds)]

    def _part(self, rows: slice) -> Batch:
        lengths = self.lengths[rows]
        return Batch(
            images=self.images[rows],
            tokens=self.tokens[rows, : int(lengths.max())],
            lengths=lengths,
            keys=self.keys[rows],
            positions=self.positions[rows],
            cursor=self.cursor,
            samples=self.samples[rows],
        )

    def sharing(self, device: torch.device) -> Sharing:
        """Return numbers that are equal for pairs of one picture, and of one caption.

        Ask a batch whose ids are on the CPU.
        """
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        captions = ["/".join(map(str, row[:length])) for row, length in rows]  # padding apart
        pictures = map(str, self.samples) if self.samples else self.keys
        return Sharing(sent(_numbers(pictures), device), sent(_numbers(captions), device))


def _numbers(names: Iterable[str]) -> Int[Tensor, " names"]:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return torch.tensor([int.from_bytes(d, "big", signed=True) for d in digests])
