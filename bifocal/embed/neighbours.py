"""Exact nearest neighbours in a matrix of any length, a tile at a time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.errors import ConfigError

ROWS, QUERIES = 16_384, 1_024


@torch.inference_mode()
def nearest(
    queries: Float[Tensor, "queries dim"], items: Float[np.ndarray, "items width"], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Return the `k` largest inner products of each query, best first, and the rows they are of.

    The items are read once, in order; only a tile of the similarities is ever held. Where there are
    fewer than `k` items, as many are returned.

    Args:
        queries: on the device that computes; unit norm makes the products cosines.
        items: rows, perhaps memory-mapped, of any floating dtype.
        k: 1 or more.

    Raises:
        ConfigError: the widths differ, or k is less than 1.
    """
    if queries.shape[1] != items.shape[1]:
        raise ConfigError(
            f"queries of {queries.shape[1]} numbers among features of {items.shape[1]}: both must "
            "come from the same model and be of the same kind"
        )
    if k < 1:
        raise ConfigError(f"the {k} nearest: ask for 1 or more")
    queries = queries.float()
    scores = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(items), ROWS):
        part = np.array(items[start : start + ROWS], dtype=np.float32)
        tile = torch.from_numpy(part).to(queries.device)
        found = [_best(some, tile, k) for some in queries.split(QUERIES)]
        scores = torch.cat([scores, torch.cat([values for values, _ in found])], dim=1)
        rows = torch.cat([rows, start + torch.cat([at for _, at in found])], dim=1)
        scores, kept = scores.topk(min(k, scores.shape[1]))
        rows = rows.gather(1, kept)
    return scores, rows


def _best(queries: Tensor, tile: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = (queries @ tile.T).topk(min(k, len(tile)))
    return best.values, best.indices
