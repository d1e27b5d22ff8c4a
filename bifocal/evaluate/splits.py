"""Which labelled examples to learn from and which to choose by; pure functions of (labels, seed).

Every class gives its part, so that none is missing on either side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from bifocal.errors import DataError

MOST_TO_CHOOSE_BY = 4


def stratified(
    labels: Int[Tensor, " examples"], share: float, seed: int
) -> tuple[Int[Tensor, " train"], Int[Tensor, " held_out"]]:
    """Return rows to learn from and rows held out: `share` of each class.

    A class of two or more has at least one on either side; one of a single example is learned.

    Raises:
        DataError: no class has two examples.
    """
    counts = torch.bincount(labels)
    most = (counts - 1).clamp(min=0)
    quota = (counts * share).round().long().clamp(min=1).minimum(most)
    held_out = _rank_in_class(labels, seed) < quota[labels]
    if not bool(held_out.any()):
        raise DataError(
            "every class has a single example, so none can be held out to choose C by: give a "
            "validation source, or more examples"
        )
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


def few_shot(
    labels: Int[Tensor, " examples"],
    class_names: Sequence[str],
    shots: int,
    seed: int,
    *,
    choose: bool,
) -> tuple[Int[Tensor, " train"], Int[Tensor, " held_out"]]:
    """Return rows of `shots` examples a class, and as many others, four at most, to choose C by.

    Few-shot C from min(shots, 4) held-out examples a class: Zhou et al. 2022 (CoOp).

    Args:
        labels: class of each example.
        class_names: what labels mean, for messages.
        shots: examples a class to learn from.
        seed: of the draw.
        choose: whether the second part is wanted; it is empty otherwise.

    Raises:
        DataError: a class has fewer examples than that.
    """
    others = min(shots, MOST_TO_CHOOSE_BY) if choose else 0
    classes, counts = labels.unique(return_counts=True)
    least = int(counts.min())
    if least < shots + others:
        name = class_names[int(classes[counts.argmin()])]
        purpose = f" and {others} to choose C by (or a validation source)" if choose else ""
        raise DataError(
            f"class '{name}' has {least} training example(s): "
            f"{shots} shots need {shots} a class{purpose}"
        )
    rank = _rank_in_class(labels, seed)
    learned = rank < shots
    chosen_by = (rank >= shots) & (rank < shots + others)
    return learned.nonzero()[:, 0], chosen_by.nonzero()[:, 0]


def _rank_in_class(labels: Int[Tensor, " examples"], seed: int) -> Int[Tensor, " examples"]:
    """Return the place of each example among those of its class, in an order from the seed."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order.to(labels.device)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    first = (counts.cumsum(0) - counts)[labels[by_class]]
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels), device=labels.device) - first
    return ranks
