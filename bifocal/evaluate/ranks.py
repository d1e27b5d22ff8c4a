"""Ranks both ways between pictures and texts, tile by tile.

Which text belongs to which picture is told by groups: pictures of one group are the same picture,
texts of one group the same text, and a list of pairs of groups says what describes what. The
matrix of scores is never held: two walks over its tiles, one for the best relevant score of every
row and column, one to count what is not below it, take memory for one tile and for the groups.

Both walks must see the same bits, and equal features equal scores wherever they stand in a tile;
sums are therefore made in float64 and rounded to float32, which hides the order of summation.

Knows features and groups; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TILE = 1024


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which texts describe which pictures.

    Attributes:
        images: group of each picture.
        texts: group of each text.
        pairs: (group of pictures, group of texts) that belong together, sorted, each once.
    """

    images: Int[Tensor, " images"]
    texts: Int[Tensor, " texts"]
    pairs: Int[Tensor, "pairs 2"]

    @classmethod
    def of(
        cls,
        owners: Int[Tensor, " texts"],
        images: Int[Tensor, " images"],
        texts: Int[Tensor, " texts"],
    ) -> Relevance:
        """Return what follows from each text's owner, a row of `images`, and from the groups."""
        return cls(images, texts, torch.stack([images[owners], texts], dim=1).unique(dim=0))

    def mask(self, rows: slice, columns: slice) -> Bool[Tensor, "rows columns"]:
        """Return which texts of a tile describe which of its pictures."""
        images, row = self.images[rows].unique(return_inverse=True)
        texts, column = self.texts[columns].unique(return_inverse=True)
        first = torch.searchsorted(self.pairs[:, 0].contiguous(), images[0])
        last = torch.searchsorted(self.pairs[:, 0].contiguous(), images[-1], right=True)
        near = self.pairs[int(first) : int(last)]
        at = [
            torch.searchsorted(some, near[:, side].contiguous()).clamp(max=len(some) - 1)
            for side, some in enumerate((images, texts))
        ]
        here = (images[at[0]] == near[:, 0]) & (texts[at[1]] == near[:, 1])
        table = torch.zeros(len(images), len(texts), dtype=torch.bool)
        table[at[0][here], at[1][here]] = True
        return table[row][:, column]

    def counts(self) -> tuple[Int[Tensor, " images"], Int[Tensor, " texts"]]:
        """Return how many texts belong to each picture, and how many pictures to each text."""
        groups = self.images, self.texts
        sizes = [torch.bincount(some) for some in groups]
        found: list[Tensor] = []
        for side, some in enumerate(groups):
            other = sizes[1 - side][self.pairs[:, 1 - side]]
            sums = torch.zeros_like(sizes[side]).index_add(0, self.pairs[:, side], other)
            found.append(sums[some])
        return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many irrelevant items score no lower than each query's best relevant one.

    A query without a relevant item has the number of items.
    """

    image_to_text: Int[Tensor, " images"]
    text_to_image: Int[Tensor, " texts"]


def rank_both(
    image_features: Float[Tensor, "images embed_dim"],
    text_features: Float[Tensor, "texts embed_dim"],
    relevance: Relevance,
    tile: int = TILE,
) -> Ranks:
    """Return the rank at which each query finds what belongs to it; 0 is first.

    An irrelevant item with the same score counts as ranked above, and so does every irrelevant item
    where the score of a relevant one is no number.
    """
    counts = len(image_features), len(text_features)
    best = [torch.full((count,), -torch.inf) for count in counts]
    any_relevant = [torch.zeros(count, dtype=torch.bool) for count in counts]
    for spans, scores, relevant in _tiles(image_features, text_features, relevance, tile):
        known = scores.masked_fill(~relevant, -torch.inf)
        for side, span in enumerate(spans):
            found = known.amax(dim=1 - side)
            best[side][span] = torch.maximum(best[side][span], found)
            any_relevant[side][span] |= relevant.any(dim=1 - side)
    ahead = [torch.zeros(count, dtype=torch.long) for count in counts]
    for spans, scores, relevant in _tiles(image_features, text_features, relevance, tile):
        for side, span in enumerate(spans):
            level = best[side][span].unsqueeze(1 - side)
            ahead[side][span] += (~(scores < level) & ~relevant).sum(dim=1 - side)
    missing = counts[::-1]
    found = [
        torch.where(some, rank, number)
        for some, rank, number in zip(any_relevant, ahead, missing, strict=True)
    ]
    return Ranks(*found)


def _tiles(
    images: Tensor, texts: Tensor, relevance: Relevance, tile: int
) -> Iterator[tuple[tuple[slice, slice], Tensor, Tensor]]:
    """Yield (rows and columns, scores, what is relevant) of every tile."""
    for top in range(0, len(images), tile):
        rows = slice(top, min(top + tile, len(images)))
        block = images[rows].double()
        for left in range(0, len(texts), tile):
            columns = slice(left, min(left + tile, len(texts)))
            scores = (block @ texts[columns].double().T).float()
            yield (rows, columns), scores, relevance.mask(rows, columns)
