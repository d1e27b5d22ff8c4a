"""The similarity matrix of all pairs, one tile at a time and never whole.

Rows are the pictures of this process, columns the texts of all processes, so that each similarity
is computed by one process alone. Knows logits and which of them belong together; knows no loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bifocal.loss.objective import gather_sharing, in_full
from bifocal.types import Features, Sharing
from bifocal.world import World


@dataclass(frozen=True, slots=True)
class Tile:
    """One block of the matrix: its logits and its place."""

    rows: slice
    columns: slice
    logits: Float[Tensor, "rows columns"]


class Similarities:
    """s·x yᵀ + b for the pictures x of this process and the texts y of all.

    Args:
        features: of this process's pairs.
        world: the processes.
        sharing: of this process's pairs, or None where only the diagonal belongs together.
        side: rows and columns of a tile, but for the last ones.
    """

    def __init__(
        self, features: Features, world: World, sharing: Sharing | None, side: int
    ) -> None:
        own = in_full(features)
        self.image, self.scale, self.bias = own.image, own.logit_scale, own.logit_bias
        self.texts = world.gather(own.text)
        self.pairs = len(self.texts)
        self._side = side
        self._first = world.rank * len(self.image)
        self._own, self._all = sharing, gather_sharing(sharing, world)

    def tiles(self) -> Iterator[Tile]:
        """Compute every tile in turn; its logits may be overwritten."""
        for rows, columns in self.places():
            logits = (self.image[rows] * self.scale) @ self.texts[columns].T
            if self.bias is not None:
                logits += self.bias
            yield Tile(rows, columns, logits)

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Return rows and columns of every tile."""
        return product(self._spans(len(self.image)), self._spans(self.pairs))

    def shared(self, rows: slice, columns: slice) -> Bool[Tensor, "rows columns"]:
        """Return which pictures and texts of a tile belong together, where pairs may share them."""
        assert self._own is not None
        assert self._all is not None
        same = self._own.image[rows, None] == self._all.image[columns]
        return same.logical_or_(self._own.text[rows, None] == self._all.text[columns])

    def matches(self, tile: Tile) -> tuple[Int[Tensor, " matches"], Int[Tensor, " matches"]]:
        """Return row and column, within the tile, of every picture and text that belong together.

        Where pairs may share them, a device is waited for.
        """
        rows, columns = tile.rows, tile.columns
        if self._own is None:
            first = rows.start + self._first
            begin, end = max(first, columns.start), min(rows.stop + self._first, columns.stop)
            both = torch.arange(begin, max(begin, end), device=self.image.device)
            return both - first, both - columns.start
        row, column = self.shared(rows, columns).nonzero(as_tuple=True)
        return row, column

    def _spans(self, count: int) -> Iterator[slice]:
        return (slice(n, min(n + self._side, count)) for n in range(0, count, self._side))


class Gradients:
    """Sums the gradients of the features over tiles.

    Args:
        similarities: whose tiles are differentiated.
    """

    def __init__(self, similarities: Similarities) -> None:
        self._of = similarities
        self._image = torch.zeros_like(similarities.image)
        self._texts = torch.zeros_like(similarities.texts)
        self._bias = torch.zeros_like(similarities.scale)

    def add(self, tile: Tile, slope: Float[Tensor, "rows columns"]) -> None:
        """Add what `slope`, the derivative of the loss by the tile's logits, gives."""
        of = self._of
        self._image[tile.rows].addmm_(slope, of.texts[tile.columns])
        self._texts[tile.columns].addmm_(slope.T, of.image[tile.rows])
        if of.bias is not None:
            self._bias += slope.sum()

    def features(self, world: World, factor: float) -> Features:
        """Return this process's share of the gradients, multiplied by `factor`.

        The derivative by the multiplier s comes for free: since s stands before every product,
        it is ⟨x, dx⟩ / s.
        """
        of = self._of
        self._image *= factor
        scale = (of.image * self._image).sum()
        self._image *= of.scale
        text = world.scatter_sum(self._texts.mul_(of.scale * factor))
        bias = None if of.bias is None else self._bias * factor
        return Features(self._image, text, scale, bias)
