"""Sequences of different lengths laid end to end, so that nothing is computed for padding.

A "tokens width" tensor holds the first sequence, behind it the second, and so on. What a
transformer does to each token by itself works on it as it stands. Attention alone asks which tokens
belong together: for it they are spread over a grid, a row a sequence. Knows places; knows no
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from bifocal.transfer import sent


class Packed(NamedTuple):
    """Where the tokens of packed sequences stand."""

    places: Int[Tensor, " tokens"]
    """Of each token in the grid, whose rows are counted through."""
    ends: Int[Tensor, " batch"]
    """Of each sequence's last token among all."""
    taken: Bool[Tensor, "batch length"]
    """Places of the grid at which there is a token."""

    def spread(
        self, tokens: Shaped[Tensor, "tokens width"]
    ) -> Shaped[Tensor, "batch length width"]:
        """Return the grid: a row a sequence, zeros behind its end."""
        grid = tokens.new_zeros(self.taken.numel(), tokens.shape[1])
        return grid.index_copy(0, self.places, tokens).unflatten(0, self.taken.shape)

    def collect(self, grid: Shaped[Tensor, "batch length width"]) -> Shaped[Tensor, "tokens width"]:
        """Return what stands at the tokens' places of a grid: the way back from `spread`."""
        return grid.flatten(0, 1).index_select(0, self.places)


def pack(lengths: Sequence[int], device: torch.device) -> Packed:
    """Return where the tokens of sequences of these lengths stand."""
    counts = np.asarray(lengths, dtype=np.int64)
    taken = np.arange(counts.max()) < counts[:, None]
    parts = np.flatnonzero(taken), counts.cumsum() - 1, taken
    return Packed(*(sent(torch.from_numpy(part), device) for part in parts))
