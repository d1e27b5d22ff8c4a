"""Retrieval both ways, with several captions a picture (paper section 3.1, table 13).

Text to image: a caption finds its picture. Image to text: a picture finds any of its captions. The
rank of a query is the number of irrelevant items that score no lower than its best relevant one, so
that a tie is never in favour; recall@k is the share of queries of a rank below k.

Where a caption is written under several pictures, or a picture is there twice, each of them may be
held to its own (`Same` "none", what the field reports), or whatever shares the caption's text or
the picture's key counts as right too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed import Encoded
from bifocal.errors import DataError
from bifocal.evaluate.features import ALL, Pictures, encode_pictures
from bifocal.evaluate.metrics import share
from bifocal.evaluate.protocol import PLAIN, Protocol
from bifocal.evaluate.ranks import Relevance, rank_both
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.loss.objective import ContrastiveLoss
from bifocal.model.clip import TwoTowers
from bifocal.pretrained import Pretrained, Told, quiet
from bifocal.types import Features

KS = (1, 5, 10)

Same = Literal["none", "caption", "picture", "both"]
"""What makes a caption right for a picture beside being its own: being the same text as one of its
captions, belonging to a picture of the same key, or either. Keys can repeat by accident where each
shard numbers its own."""


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
    relevance: Relevance
    protocol: Protocol = PLAIN
    same: Same = "none"

    def ways(self) -> dict[str, Int[Tensor, " queries"]]:
        """Return the ranks of both ways under the protocol's names."""
        if self.protocol.metric_names == "clip_benchmark":
            # Named after what is found, not after what asks.
            names = "text_retrieval", "image_retrieval"
        else:
            names = "image_to_text", "text_to_image"
        return dict(zip(names, (self.image_to_text, self.text_to_image), strict=True))

    def right(self) -> dict[str, Bool[Tensor, " queries"]]:
        """Return, by recall, which queries found what belongs to them among the first k."""
        items = len(self.text_features), len(self.image_features)
        return {
            # The rank of a query that nothing belongs to is the number of items.
            f"{way}_recall@{k}": ranks < min(k, count)
            for (way, ranks), count in zip(self.ways().items(), items, strict=True)
            for k in KS
        }

    def metrics(self) -> dict[str, float]:
        """Return recall@1/5/10 and the median rank (1 is first) both ways, and chance@10."""
        right = self.right()
        found: dict[str, float] = {}
        for way, ranks in self.ways().items():
            found |= {f"{way}_recall@{k}": share(right[f"{way}_recall@{k}"]) for k in KS}
            found[f"{way}_median_rank"] = ranks.median().item() + 1.0
        texts, images = self.relevance.counts()
        image_to_text, text_to_image = self.ways()
        return found | {
            f"{image_to_text}_chance@10": chance(texts, len(self.text_features), 10),
            f"{text_to_image}_chance@10": chance(images, len(self.image_features), 10),
            "images": float(len(self.image_features)),
            "texts": float(len(self.text_features)),
        }

    def intervals(self, plan: Bootstrap = STANDARD) -> dict[str, Interval]:
        """Return the confidence intervals of the recalls; captions of a picture are drawn together.

        One picture alone has none.
        """
        if len(self.image_features) < 2:
            return {}
        return {
            name: interval(one, groups=self.unit_of(name), plan=plan)
            for name, one in self.right().items()
        }

    def unit_of(self, metric: str) -> Int[Tensor, " queries"] | None:
        """Return the picture that each query of a recall belongs to; None where it is the query.

        Pictures of one key are one, if they count as the same.
        """
        pictures = self.relevance.images
        if metric.startswith(next(iter(self.ways()))):
            return pictures if self.same in ("picture", "both") else None
        return pictures[self.owners]


def retrieval(
    pretrained: Pretrained, source: Source, *, limit: int | None = None, threads: int = 2
) -> RetrievalResult:
    """Rank all captions for every picture and all pictures for every caption.

    Raises:
        DataError: the pictures have no captions.
    """
    return retrieve(pretrained, source, how=Pictures(limit, threads))


def retrieve(
    pretrained: Pretrained,
    source: Source,
    *,
    protocol: Protocol = PLAIN,
    same: Same = "none",
    how: Pictures = ALL,
    told: Told = quiet,
) -> RetrievalResult:
    """Rank all captions for every picture and all pictures for every caption, by a protocol.

    Args:
        pretrained: the model.
        source: captioned pictures.
        protocol: what stands before captions, and the metrics' names.
        same: what counts as right beside a picture's own captions; see `Same`.
        how: which pictures, and whence their features.
        told: hears how many pictures are done.

    Raises:
        DataError: the pictures, or some of them, have no captions.
        CheckpointError: stored features are not of this model and data.
    """
    seen = encode_pictures(pretrained, source, how, told)
    _check_captions(seen)
    captions = [text for texts in seen.captions for text in texts]
    owners = torch.tensor([row for row, texts in enumerate(seen.captions) for _ in texts])
    # Stored features are of captions as they are.
    texts = None if protocol.caption_prefix else seen.text_features
    if texts is None:
        texts = pretrained.encode_text([protocol.caption_prefix + text for text in captions])
    by_key = same in ("picture", "both")
    by_text = same in ("caption", "both")
    relevance = Relevance.of(
        owners,
        _groups(seen.keys if by_key else range(len(seen.keys))),
        _groups(captions if by_text else range(len(captions))),
    )
    ranks = rank_both(seen.features, texts, relevance)
    return RetrievalResult(
        image_features=seen.features,
        text_features=texts,
        owners=owners,
        indices=seen.indices,
        captions=tuple(captions),
        image_to_text=ranks.image_to_text,
        text_to_image=ranks.text_to_image,
        skipped=seen.skipped,
        protocol=protocol,
        relevance=relevance,
        same=same,
    )


def _check_captions(seen: Encoded) -> None:
    """Raise DataError unless each picture has a caption that it can find."""
    silent = [key for key, texts in zip(seen.keys, seen.captions, strict=True) if not texts]
    if len(silent) == len(seen.keys):
        raise DataError("the pictures have no captions: retrieval needs them")
    if silent:
        raise DataError(
            f"{len(silent):,} of {len(seen.keys):,} pictures have no caption, as '{silent[0]}': "
            "retrieval needs one or more of each"
        )


def _groups(names: Sequence[object]) -> Int[Tensor, " names"]:
    """Return equal numbers for equal names."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])


def chance(own: Int[Tensor, " queries"], total: int, k: int) -> float:
    """Return the mean chance that `k` of `total` items drawn at random hold one that belongs.

    Queries to which no item belongs are left out.
    """
    own = own[own > 0].double()
    draws = torch.arange(min(k, total), dtype=torch.float64)
    missed = ((total - own[:, None] - draws).clamp(min=0) / (total - draws)).prod(dim=1)
    return (1 - missed).mean().item()


def validation_loss(
    result: RetrievalResult, model: TwoTowers, loss: ContrastiveLoss, batch_size: int
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
