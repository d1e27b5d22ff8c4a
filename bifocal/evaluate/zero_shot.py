"""Zero-shot classification of a labelled source (paper section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.evaluate.calibration import Calibration, calibration
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import ALL, Pictures
from bifocal.evaluate.metrics import confusion, mean_over_classes, rank_of_best, share
from bifocal.evaluate.protocol import PLAIN, Protocol
from bifocal.evaluate.scoring import Scores, score
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.identity import JSON
from bifocal.inputs.prompts import PHOTO, Templates
from bifocal.pretrained import Pretrained, Told

FIVE = 5


@dataclass(frozen=True, slots=True)
class ZeroShotResult:
    """Scores of every picture against every class, and what follows from them."""

    class_names: tuple[str, ...]
    logits: Float[Tensor, "images classes"]
    labels: Int[Tensor, " images"]
    indices: Int[Tensor, " images"]
    skipped: int
    protocol: Protocol = PLAIN
    prompts: tuple[tuple[str, ...], ...] = ()
    """What each class was said by."""
    scores: Scores = "cosine"

    def among(self, classes: Sequence[int]) -> ZeroShotResult:
        """Return the result as if `classes` were the only names to choose from.

        Every picture must be of one of them.
        """
        kept = torch.tensor(classes)
        return replace(
            self,
            class_names=tuple(self.class_names[n] for n in classes),
            logits=self.logits[:, kept],
            labels=(self.labels[:, None] == kept).int().argmax(dim=1),
            prompts=tuple(self.prompts[n] for n in classes) if self.prompts else (),
        )

    def ranks(self) -> Int[Tensor, " images"]:
        """Return how many other classes score no lower than each picture's own."""
        own = self.labels[:, None] == torch.arange(len(self.class_names))
        return rank_of_best(self.logits, own)

    def right(self) -> dict[str, Bool[Tensor, " images"]]:
        """Return, by metric, which pictures are right; a metric that is not defined has none."""
        ranks = self.ranks()
        first, five = ranks < 1, ranks < FIVE
        names = ("top1", "top5") if self.protocol.metric_names == "bifocal" else ("acc1", "acc5")
        # Of fewer classes than five, five guesses are always right.
        fifth = {names[1]: five} if len(self.class_names) >= FIVE else {}
        return {names[0]: first, **fifth, "mean_per_class_recall": first}

    def metrics(self) -> dict[str, float]:
        """Return accuracies by the protocol's names, chance and the number of pictures.

        Plain: top-1, mean per-class recall, and top-5 where there are five classes or more.
        """
        right = self.right()
        found = {name: share(one) for name, one in right.items()}
        found["mean_per_class_recall"] = mean_over_classes(
            right["mean_per_class_recall"], self.labels
        )
        if self.protocol.metric_names == "clip_benchmark":
            found.setdefault("acc5", math.nan)
        return found | {"chance": 1 / len(self.class_names), "images": float(len(self.labels))}

    def intervals(self, plan: Bootstrap = STANDARD) -> dict[str, Interval]:
        """Return the confidence intervals of the metrics that are shares of pictures."""
        return {
            name: interval(one, classes=self.classes_of(name), plan=plan)
            for name, one in self.right().items()
        }

    def classes_of(self, metric: str) -> Int[Tensor, " images"] | None:
        """Return the classes over which a metric is a mean of means, if it is one."""
        return self.labels if metric == "mean_per_class_recall" else None

    def confusion(self) -> Int[Tensor, "classes classes"]:
        """Return counts, true classes in rows and predicted ones in columns."""
        return confusion(self.logits.argmax(dim=1), self.labels, len(self.class_names))

    def calibration(self) -> Calibration:
        """Return whether the probabilities mean what they say."""
        return calibration(self.logits, self.labels)

    def details(self) -> dict[str, JSON]:
        """Return what a record has no place for: confusion, accuracy by class, reliability."""
        counts = self.confusion()
        totals = counts.sum(dim=1)
        shares = (counts.diagonal().double() / totals).tolist()
        return {
            "class_names": list(self.class_names),
            "confusion": counts.tolist(),
            "recall": [one if n else None for one, n in zip(shares, totals.tolist(), strict=True)],
            "pictures": totals.tolist(),
            "reliability": self.calibration().diagram(),
            "indices": self.indices.tolist(),
            "labels": self.labels.tolist(),
            "predictions": self.logits.argmax(dim=1).tolist(),
        }


def zero_shot(
    pretrained: Pretrained,
    source: Source,
    templates: Templates = PHOTO,
    *,
    limit: int | None = None,
    threads: int = 2,
) -> ZeroShotResult:
    """Classify a source's pictures by the names of its classes.

    Raises:
        DataError: the pictures have no labels.
    """
    return classify(pretrained, source, Prompting(templates), Pictures(limit, threads))


def classify(
    pretrained: Pretrained,
    source: Source,
    prompting: Prompting,
    how: Pictures = ALL,
    told: Mapping[str, Told] = {},
) -> ZeroShotResult:
    """Classify a source's pictures by a protocol.

    Args:
        pretrained: the model.
        source: labelled pictures.
        prompting: how classes are said.
        how: which pictures, and whence their features.
        told: hears of "prompts" and of "pictures" that are done.

    Raises:
        DataError: the pictures have no labels, or may have several.
        ConfigError: the classes or templates are not those of the data.
        CheckpointError: stored features are not of this model and data.
    """
    found = score(pretrained, source, prompting, how, told, one_class=True)
    return ZeroShotResult(
        class_names=found.class_names,
        logits=found.logits,
        labels=found.seen.labels,
        indices=found.seen.indices,
        skipped=found.seen.skipped,
        protocol=prompting.protocol,
        prompts=found.prompts,
        scores=found.scores,
    )
