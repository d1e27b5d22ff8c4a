"""Accuracies and recalls from scores; a tie, or a score that is no number, is never in favour."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def share(right: Bool[Tensor, " examples"]) -> float:
    """Return the share of examples that are right."""
    return right.double().mean().item()


def mean_over_classes(
    values: Float[Tensor, " examples"] | Bool[Tensor, " examples"],
    classes: Int[Tensor, " examples"],
) -> float:
    """Return the mean, over classes that occur, of the mean within; of what is right, the recall.

    The balanced accuracy.
    """
    _, own, totals = classes.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(totals), dtype=torch.float64, device=values.device)
    return (sums.index_add(0, own, values.double()) / totals).mean().item()


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


def average_precision_at_11(
    scores: Float[Tensor, " images"], relevant: Bool[Tensor, " images"]
) -> float:
    """Return the mean, over recalls 0, 0.1 … 1, of the best precision at that recall or beyond.

    Pascal VOC 2007 (Everingham et al. 2010, section 4.2). An irrelevant image of the same score
    counts as ranked above; one whose score is no number comes last if relevant, first if not.
    Without a relevant image it is not defined: NaN.
    """
    total = int(relevant.sum())
    if not total:
        return math.nan
    worst = torch.where(relevant, -torch.inf, torch.inf).to(scores.dtype)
    scores = torch.where(scores.isnan(), worst, scores)
    # Irrelevant ones first, then a stable sort by score: of equals they stay ahead.
    order = relevant.int().argsort(stable=True)
    order = order[scores[order].argsort(descending=True, stable=True)]
    found = relevant[order].cumsum(0)
    precision = found.double() / torch.arange(1, len(scores) + 1)
    # Recall r is reached once 10 · found ≥ 10 · r · total, in integers.
    levels = [precision[10 * found >= tenth * total].max() for tenth in range(11)]
    return torch.stack(levels).mean().item()


def roc_auc(scores: Float[Tensor, " images"], positive: Bool[Tensor, " images"]) -> float:
    """Return the share of (positive, negative) pairs that the scores order rightly; a tie is half.

    The area under the receiver's curve (Mann & Whitney 1947). A score that is no number orders
    nothing rightly. Without both kinds it is not defined: NaN.
    """
    if bool(positive.all()) or not bool(positive.any()):
        return math.nan
    good = scores[positive].double().nan_to_num(-math.inf, math.inf, -math.inf)
    bad = scores[~positive].double().nan_to_num(math.inf, math.inf, -math.inf).sort().values
    broken = scores[positive].isnan()
    below = torch.searchsorted(bad, good)
    level = torch.searchsorted(bad, good, right=True) - below
    # A tie of a score that is no number with an infinite one counts for nothing.
    infinite = good.isinf() & scores[~positive].isnan().any()
    right = torch.where(broken, 0.0, below + torch.where(infinite, 0.0, 0.5) * level)
    return (right.sum() / (len(good) * len(bad))).item()
