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

from bifocal.types import Cursor, Sharing


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs as a training step reads them; `cursor` is where the next batch begins."""

    images: UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch embed_dim"]
    """Pictures, or the features that stand for them where the image tower is locked."""
    tokens: Int[Tensor, "batch length"]
    lengths: Int[Tensor, " batch"]
    keys: tuple[str, ...]
    positions: Int[Tensor, " batch"]
    """Where each pair stands in the run, whatever sample stands there."""
    cursor: Cursor

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            tokens=self.tokens.to(device, non_blocking=True),
            lengths=self.lengths.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
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
        )

    def sharing(self) -> Sharing:
        """Return numbers that are equal for pairs of one picture, and of one caption."""
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        captions = ["/".join(map(str, row[:length])) for row, length in rows]  # padding apart
        device = self.images.device
        return Sharing(_numbers(self.keys, device), _numbers(captions, device))


def _numbers(names: Iterable[str], device: torch.device) -> Int[Tensor, " names"]:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return torch.tensor([int.from_bytes(d, "big", signed=True) for d in digests], device=device)
