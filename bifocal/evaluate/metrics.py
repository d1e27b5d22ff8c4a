"""Accuracies and recalls from scores; a tie, or a score that is no number, is never in favour."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def top_k_accuracy(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"], k: int
) -> float:
    """Return the share of images whose class is among the `k` best scored.

    A class that ties with the right one counts as scored above it.
    """
    own = logits.gather(1, labels[:, None])
    rank = (~(logits < own)).sum(dim=1) - 1
    return (rank < k).float().mean().item()


def mean_per_class_recall(
    predictions: Int[Tensor, " images"], labels: Int[Tensor, " images"]
) -> float:
    """Return the mean, over classes that occur, of the share of its images found."""
    matrix = confusion(predictions, labels, int(max(predictions.max(), labels.max())) + 1)
    totals = matrix.sum(dim=1)
    seen = totals > 0
    return (matrix.diagonal()[seen] / totals[seen]).float().mean().item()


def confusion(
    predictions: Int[Tensor, " images"], labels: Int[Tensor, " images"], classes: int
) -> Int[Tensor, "classes classes"]:
    """Return counts, true classes in rows and predicted ones in columns."""
    return torch.bincount(labels * classes + predictions, minlength=classes**2).view(
        classes, classes
    )


def rank_of_best(
    scores: Float[Tensor, "queries items"], relevant: Bool[Tensor, "queries items"]
) -> Int[Tensor, " queries"]:
    """Return the rank (0 is first) of each query's best relevant item.

    An irrelevant item with the same score counts as ranked above it. A query without a relevant
    item has the rank of the number of items.
    """
    best = scores.masked_fill(~relevant, float("-inf")).amax(dim=1, keepdim=True)
    ahead = (~(scores < best) & ~relevant).sum(dim=1)
    return torch.where(relevant.any(dim=1), ahead, scores.shape[1])


def recall_at_k(ranks: Int[Tensor, " queries"], k: int) -> float:
    """Return the share of queries whose best relevant item is among the first `k`."""
    return (ranks < k).float().mean().item()
