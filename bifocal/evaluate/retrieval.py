"""Retrieval both ways, with several captions a picture (paper section 3.1, table 13).

Text to image: a caption finds its one picture. Image to text: a picture finds any of its
captions. The matrix is walked in tiles and never held whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.loader import Skips
from bifocal.data.sample import Source
from bifocal.errors import DataError
from bifocal.evaluate.features import encode_pictures
from bifocal.evaluate.metrics import rank_of_best, recall_at_k
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.loss.objective import ContrastiveLoss
from bifocal.model.clip import CLIP
from bifocal.pretrained import Pretrained
from bifocal.types import Features

KS = (1, 5, 10)
TILE = 1024


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Features of both sides, and the rank at which each query found its like."""

    image_features: Float[Tensor, "images embed_dim"]
    text_features: Float[Tensor, "texts embed_dim"]
    owners: Int[Tensor, " texts"]
    """Row of the picture that each caption describes."""
    indices: Int[Tensor, " images"]
    captions: tuple[str, ...]
    image_to_text: Int[Tensor, " images"]
    text_to_image: Int[Tensor, " texts"]
    skipped: int

    def metrics(self) -> dict[str, float]:
        """Return recall@1/5/10 and the median rank (1 is first) both ways, and chance@10."""
        found: dict[str, float] = {}
        ways = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        for way, ranks in ways.items():
            found |= {f"{way}_recall@{k}": recall_at_k(ranks, k) for k in KS}
            found[f"{way}_median_rank"] = ranks.median().item() + 1.0
        found |= {
            "image_to_text_chance@10": chance_of_any(self.owners, 10),
            "text_to_image_chance@10": min(1.0, 10 / len(self.image_features)),
            "images": float(len(self.image_features)),
            "texts": float(len(self.text_features)),
        }
        return found

    def intervals(self, plan: Bootstrap = STANDARD) -> dict[str, Interval]:
        """Return the confidence intervals of the recalls; captions of a picture are drawn together.

        One picture alone has none.
        """
        if len(self.image_features) < 2:
            return {}
        ways = {
            "image_to_text": (self.image_to_text, None),
            "text_to_image": (self.text_to_image, self.owners),
        }
        return {
            f"{way}_recall@{k}": interval(ranks < k, groups=groups, plan=plan)
            for way, (ranks, groups) in ways.items()
            for k in KS
        }


def retrieval(
    pretrained: Pretrained, source: Source, *, limit: int | None = None, threads: int = 2
) -> RetrievalResult:
    """Rank all captions for every picture and all pictures for every caption.

    Raises:
        DataError: the pictures have no captions.
    """
    skips = Skips()
    seen = encode_pictures(pretrained, source, skips, limit, threads)
    captions = [text for texts in seen.captions for text in texts]
    owners = torch.tensor([row for row, texts in enumerate(seen.captions) for _ in texts])
    if not captions:
        raise DataError("the pictures have no captions: retrieval needs them")
    texts = pretrained.encode_text(captions)
    rows = torch.arange(len(seen.features))
    return RetrievalResult(
        image_features=seen.features,
        text_features=texts,
        owners=owners,
        indices=seen.indices,
        captions=tuple(captions),
        image_to_text=_ranks(seen.features, texts, rows, owners),
        text_to_image=_ranks(texts, seen.features, owners, rows),
        skipped=skips.counts.total(),
    )


def _ranks(
    queries: Float[Tensor, "queries embed_dim"],
    items: Float[Tensor, "items embed_dim"],
    query_groups: Int[Tensor, " queries"],
    item_groups: Int[Tensor, " items"],
) -> Int[Tensor, " queries"]:
    """Return the rank at which each query finds an item of its own group."""
    tiles = zip(queries.split(TILE), query_groups.split(TILE), strict=True)
    ranks = [rank_of_best(q @ items.T, groups[:, None] == item_groups) for q, groups in tiles]
    return torch.cat(ranks)


def chance_of_any(owners: Int[Tensor, " texts"], k: int) -> float:
    """Return the mean chance that `k` captions drawn at random hold one of a picture's own."""
    total = len(owners)
    own = torch.bincount(owners).double()
    own = own[own > 0]
    draws = torch.arange(min(k, total), dtype=torch.float64)
    missed = ((total - own[:, None] - draws).clamp(min=0) / (total - draws)).prod(dim=1)
    return (1 - missed).mean().item()


def validation_loss(
    result: RetrievalResult, model: CLIP, loss: ContrastiveLoss, batch_size: int
) -> float:
    """Return the mean training loss over held-out batches.

    Each picture stands beside its first caption; batches have the training's size (a last, smaller
    one is left out unless it is the only one), since the loss grows with the batch.
    """
    first = torch.searchsorted(result.owners, torch.arange(len(result.image_features)))
    texts = result.text_features[first]
    size = min(batch_size, len(texts))
    scale, bias = model.logit_scale.detach().exp().cpu(), model.logit_bias
    bias = None if bias is None else bias.detach().cpu()
    losses = [
        loss.value_and_grad(Features(image, text, scale, bias))[0]
        for image, text in zip(result.image_features.split(size), texts.split(size), strict=True)
        if len(image) == size
    ]
    return torch.stack(losses).mean().item()
