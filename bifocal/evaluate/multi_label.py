"""Zero-shot scores of pictures that may be of several classes, or of none.

Each class ranks all pictures, and average precision says how well (Pascal VOC 2007 counts it at
eleven points: the paper's metric there, table 9); each picture ranks all classes, and label ranking
average precision says how well that is. No threshold is chosen anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.errors import DataError
from bifocal.evaluate.average_precision import (
    Form,
    average_precisions,
    interpolated,
    mean_precision_of,
)
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import ALL, Pictures, check_finite
from bifocal.evaluate.opening import Labels
from bifocal.evaluate.protocol import PLAIN, Protocol
from bifocal.evaluate.resampling import percentile_interval
from bifocal.evaluate.scoring import Scores, score
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.identity import JSON
from bifocal.pretrained import Pretrained, Told

MEANS: Mapping[str, Form] = {
    "mean_average_precision": "area",
    "mean_average_precision_11_points": "eleven points",
}
RANKING = "label_ranking_average_precision"


@dataclass(frozen=True, slots=True)
class MultiLabelResult:
    """Scores of every picture against every class, and what follows from them.

    Attributes:
        class_names: as they are shown.
        logits: finite scores.
        relevant: which pictures are of which classes.
        indices: of the pictures in their source.
        skipped: pictures that could not be read.
        protocol: whose rules.
        prompts: what each class was said by.
        scores: what logits are.
    """

    class_names: tuple[str, ...]
    logits: Float[Tensor, "images classes"]
    relevant: Bool[Tensor, "images classes"]
    indices: Int[Tensor, " images"]
    skipped: int
    protocol: Protocol = PLAIN
    prompts: tuple[tuple[str, ...], ...] = ()
    scores: Scores = "cosine"

    @property
    def absent(self) -> float:
        """What counts for a class without pictures: nothing, or 0 by CLIP_benchmark's rules."""
        return 0.0 if self.protocol.metric_names == "clip_benchmark" else math.nan

    def by_class(self, form: Form) -> Float64[Tensor, " classes"]:
        """Return the average precision of every class; NaN of one without pictures."""
        return average_precisions(self.logits, self.relevant, form)

    def curves(self) -> Float64[Tensor, "classes levels"]:
        """Return the best precision of every class at recall 0, 0.1 … 1 or beyond."""
        return interpolated(self.logits, self.relevant)

    @property
    def labelled(self) -> Bool[Tensor, " images"]:
        """Which pictures are of a class at all: only those have a label ranking."""
        return self.relevant.any(dim=1)

    def ranking(self) -> Float64[Tensor, " labelled_images"]:
        """Return the label ranking average precision of each picture that is of a class.

        The mean, over its classes, of the share of its own among the classes that score as high or
        higher.
        """
        logits, own = self.logits[self.labelled], self.relevant[self.labelled]
        # Of a sorted row, all from the place of a score on are as high or higher.
        every = logits.sort(dim=1).values
        mine = torch.where(own, logits, -torch.inf).sort(dim=1).values
        above, among = (
            own.shape[1] - torch.searchsorted(row, logits.contiguous()) for row in (every, mine)
        )
        return torch.where(own, among.double() / above, 0.0).sum(dim=1) / own.sum(dim=1)

    def metrics(self) -> dict[str, float]:
        """Return both means over classes, label ranking, chance and the number of pictures.

        Chance is the share of pictures that a class has, on average over the classes that count:
        about what a random order would score.
        """
        shares = self.relevant.double().mean(dim=0)
        means = {}
        for name, form in MEANS.items():
            found = self.by_class(form)
            means[name] = found.where(~found.isnan(), self.absent).nanmean().item()
        return {
            **means,
            RANKING: self.ranking().mean().item(),
            "chance": shares.where(shares > 0, self.absent).nanmean().item(),
            "images": float(len(self.logits)),
        }

    def intervals(self, plan: Bootstrap = STANDARD) -> dict[str, Interval]:
        """Return the confidence intervals of the metrics; pictures are what is drawn.

        A mean has none where resamples do not differ, as of a perfect order.
        """
        found = {}
        for name, form in MEANS.items():
            mean = mean_precision_of(self.logits, self.relevant, form, self.absent)
            bounds = percentile_interval(mean, len(self.logits), plan=plan)
            found |= {name: bounds} if bounds and bounds.low < bounds.high else {}
        ranking = self.ranking()
        return found | ({RANKING: interval(ranking, plan=plan)} if len(ranking) > 1 else {})

    def details(self) -> dict[str, JSON]:
        """Return what a record has no place for: precision by class, the classes of pictures."""
        return {
            "class_names": list(self.class_names),
            "pictures": self.relevant.sum(dim=0).tolist(),
            "average_precision": self.by_class("area").tolist(),
            "average_precision_11_points": self.by_class("eleven points").tolist(),
            "indices": self.indices.tolist(),
            "labels": [row.nonzero()[:, 0].tolist() for row in self.relevant],
        }


def classify_multi_label(
    pretrained: Pretrained,
    source: Source,
    labels: Labels,
    prompting: Prompting,
    how: Pictures = ALL,
    told: Mapping[str, Told] = {},
) -> MultiLabelResult:
    """Score a source's pictures, of several classes each, by a protocol.

    Args:
        pretrained: the model.
        source: of the pictures.
        labels: all classes of each.
        prompting: how classes are said.
        how: which pictures, and whence their features.
        told: hears of "prompts" and of "pictures" that are done.

    Raises:
        DataError: the source has no classes, no picture is of any, or a score is not finite.
        ConfigError: the classes or templates are not those of the data.
        CheckpointError: stored features are not of this model and data.
    """
    found = score(pretrained, source, prompting, how, told, one_class=False)
    check_finite(found.logits)
    relevant = torch.zeros(found.logits.shape, dtype=torch.bool)
    for row, index in enumerate(found.seen.indices.tolist()):
        relevant[row, list(labels(index))] = True
    if not relevant.any():
        raise DataError("no picture is of any class: NAME.cls or NAME.npy says which")
    return MultiLabelResult(
        class_names=found.class_names,
        logits=found.logits,
        relevant=relevant,
        indices=found.seen.indices,
        skipped=found.seen.skipped,
        protocol=prompting.protocol,
        prompts=found.prompts,
        scores=found.scores,
    )
