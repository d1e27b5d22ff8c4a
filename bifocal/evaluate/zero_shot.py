"""Zero-shot classification of a labelled source (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.loader import Skips
from bifocal.data.sample import Source
from bifocal.errors import DataError
from bifocal.evaluate.features import encode_pictures
from bifocal.evaluate.metrics import mean_per_class_recall, rank_of_best, top_k_accuracy
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.inputs.prompts import PHOTO
from bifocal.pretrained import Pretrained


@dataclass(frozen=True, slots=True)
class ZeroShotResult:
    """Scores of every picture against every class, and what follows from them."""

    class_names: tuple[str, ...]
    logits: Float[Tensor, "images classes"]
    labels: Int[Tensor, " images"]
    indices: Int[Tensor, " images"]
    skipped: int

    def among(self, classes: Sequence[int]) -> ZeroShotResult:
        """Return the result as if `classes` were the only names to choose from.

        Every picture must be of one of them.
        """
        kept = torch.tensor(classes)
        return ZeroShotResult(
            class_names=tuple(self.class_names[n] for n in classes),
            logits=self.logits[:, kept],
            labels=(self.labels[:, None] == kept).int().argmax(dim=1),
            indices=self.indices,
            skipped=self.skipped,
        )

    def metrics(self) -> dict[str, float]:
        """Return top-1, top-5, mean per-class recall, chance and the number of pictures."""
        classes = len(self.class_names)
        return {
            "top1": top_k_accuracy(self.logits, self.labels, 1),
            "top5": top_k_accuracy(self.logits, self.labels, 5),
            "mean_per_class_recall": mean_per_class_recall(self.logits.argmax(1), self.labels),
            "chance": 1 / classes,
            "images": float(len(self.labels)),
        }

    def intervals(self, plan: Bootstrap = STANDARD) -> dict[str, Interval]:
        """Return the confidence intervals of the metrics that are shares of pictures."""
        own = self.labels[:, None] == torch.arange(len(self.class_names))
        ranks = rank_of_best(self.logits, own)
        found = self.logits.argmax(dim=1) == self.labels
        return {
            "top1": interval(ranks < 1, plan=plan),
            "top5": interval(ranks < 5, plan=plan),
            "mean_per_class_recall": interval(found, classes=self.labels, plan=plan),
        }


def zero_shot(
    pretrained: Pretrained,
    source: Source,
    templates: Sequence[str] = PHOTO,
    *,
    limit: int | None = None,
    threads: int = 2,
) -> ZeroShotResult:
    """Classify a source's pictures by the names of its classes.

    Raises:
        DataError: the pictures have no labels.
    """
    if not source.class_names:
        raise DataError("the pictures have no classes: zero-shot needs NAME.cls and classes.json")
    skips = Skips()
    seen = encode_pictures(pretrained, source, skips, limit, threads)
    if (seen.labels < 0).any():
        raise DataError("some pictures have captions but no label: zero-shot needs NAME.cls")
    classifier = pretrained.zero_shot(source.class_names, templates)
    return ZeroShotResult(
        class_names=tuple(source.class_names),
        logits=classifier.head.logits(seen.features),
        labels=seen.labels,
        indices=seen.indices,
        skipped=skips.counts.total(),
    )
