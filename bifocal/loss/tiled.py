"""Both contrastive losses by tiles: the same numbers as the plain forms, in O(N·d) memory.

The softmax form makes two passes: one for the log-sum-exp of rows and columns (kept online, Milakov
& Gimelshein 2018, arXiv 1805.02867), one for the gradients, where the tiles are computed again:
8N²d operations against the 6N²d of the plain form. The sigmoid form needs one pass. Over several
processes each computes the rows of its own pictures (paper section 2.5: "only the subset of the
pairwise similarities necessary for their local batch").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bifocal.loss.sigmoid import bias_of
from bifocal.loss.tiles import Gradients, Similarities
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World

SIDE, SIDE_ON_AN_ACCELERATOR = 1024, 4096
"""Rows and columns of a tile: small enough for a processor's cache; large enough for an accelerator
to be asked for little more than products."""


@dataclass(frozen=True, slots=True)
class TiledSoftmaxLoss:
    """`SoftmaxLoss` by tiles of `side` rows and columns; None takes what suits the device."""

    side: int | None = None

    @torch.no_grad()
    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss and this process's share of its gradients."""
        device = features.image.device
        with torch.autocast(device.type, enabled=False):
            similarities = Similarities(features, world, sharing, self.side or side_of(device))
            return _softmax(similarities, world, shared=sharing is not None)


@dataclass(frozen=True, slots=True)
class TiledSigmoidLoss:
    """`SigmoidLoss` by tiles of `side` rows and columns; None takes what suits the device."""

    side: int | None = None

    @torch.no_grad()
    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss and this process's share of its gradients.

        Raises:
            ConfigError: the model has no bias.
        """
        bias_of(features)
        device = features.image.device
        with torch.autocast(device.type, enabled=False):
            similarities = Similarities(features, world, sharing, self.side or side_of(device))
            return _sigmoid(similarities, world)


def side_of(device: torch.device) -> int:
    """Return the rows and columns of a tile that suit a device."""
    return SIDE if device.type == "cpu" else SIDE_ON_AN_ACCELERATOR


def _softmax(
    similarities: Similarities, world: World, *, shared: bool
) -> tuple[Float[Tensor, ""], Features]:
    pairs = similarities.pairs
    rows, columns = _log_sum_exp(similarities, world)
    row_weight, column_weight = _weights(similarities, world, shared)
    matched = torch.zeros_like(similarities.scale)
    gradients = Gradients(similarities)
    for tile in similarities.tiles():
        per_image, per_text = rows[tile.rows, None], columns[tile.columns]
        matches = similarities.matches(tile)
        weight = row_weight[tile.rows][matches[0]] + column_weight[tile.columns][matches[1]]
        matched += tile.logits[matches] @ weight
        slope = (tile.logits - per_image).exp_()
        slope += tile.logits.sub_(per_text).exp_()
        slope[matches] -= weight
        gradients.add(tile, slope)
    loss = (world.sum_(rows.sum() - matched) + columns.sum()) / (2 * pairs)
    return loss, gradients.features(world, 1 / (2 * pairs))


def _log_sum_exp(
    similarities: Similarities, world: World
) -> tuple[Float[Tensor, " local"], Float[Tensor, " batch"]]:
    """Return log Σ exp of the logits of each picture of this process, and of each text of all."""
    rows = similarities.image.new_full((len(similarities.image),), float("-inf"))
    columns = similarities.image.new_full((similarities.pairs,), float("-inf"))
    for tile in similarities.tiles():
        for part, dim in ((rows[tile.rows], 1), (columns[tile.columns], 0)):
            part.copy_(torch.logaddexp(part, tile.logits.logsumexp(dim)))
    if world.size > 1:
        largest = world.max_(columns.clone())
        columns = world.sum_((columns - largest).exp_()).log_() + largest
    return rows, columns


def _weights(
    similarities: Similarities, world: World, shared: bool
) -> tuple[Float[Tensor, " local"], Float[Tensor, " batch"]]:
    """Return what each match of a picture, and of a text, counts: one over their number."""
    rows = torch.ones_like(similarities.image[:, 0])
    columns = torch.ones_like(similarities.texts[:, 0])
    if not shared:
        return rows, columns
    rows.zero_()
    columns.zero_()
    for place in similarities.places():
        together = similarities.shared(*place)
        for counts, span, dim in ((rows, place[0], 1), (columns, place[1], 0)):
            counts[span] += together.sum(dim)
    return rows.reciprocal_(), world.sum_(columns).reciprocal_()


def _sigmoid(similarities: Similarities, world: World) -> tuple[Float[Tensor, ""], Features]:
    pairs = similarities.pairs
    loss = torch.zeros_like(similarities.scale)
    gradients = Gradients(similarities)
    for tile in similarities.tiles():
        # -log σ(-l) for all, and -log σ(l) = -log σ(-l) - l where they belong together.
        matches = similarities.matches(tile)
        loss += F.softplus(tile.logits).sum() - tile.logits[matches].sum()
        slope = tile.logits.sigmoid_()
        slope[matches] -= 1
        gradients.add(tile, slope)
    return world.sum_(loss) / pairs, gradients.features(world, 1 / pairs)
