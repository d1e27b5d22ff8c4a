"""Whose rules a figure follows: prompts, logits, names of metrics, and the paper's metric by set.

    plain           bifocal's own: "a {}" becomes "an {}" before a vowel; logits times the learned
                    scale
    paper           Radford et al. 2021: templates as they are; logits times the learned scale;
                    retrieval with "a photo of " before every caption (section E.1); each data set
                    by the metric of table 9
    clip_benchmark  CLIP_benchmark 1.6: pictures resized by Pillow (`opening.as_read_by`); templates
                    as they are; logits times 100; acc1, acc5 (not a number with fewer than five
                    classes), mean_per_class_recall (the balanced accuracy); image_retrieval_
                    recall@k counts captions that find their picture, text_retrieval_recall@k
                    pictures that find a caption; of several classes a picture,
                    mean_average_precision, to which a class without pictures adds 0

In all of them an item that ties with the right one counts as ranked above it; CLIP_benchmark leaves
ties to `torch.topk`, whose order is arbitrary, so that its figures can be higher where scores tie
(equal captions or pictures, a model that says nothing).

Knows rules; knows nothing of models or data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from bifocal.errors import ConfigError, did_you_mean

Metric = Literal["top1", "mean_per_class_recall", "mean_of_top1_and_top5", "roc_auc", "map_at_11"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Rules of an evaluation.

    Attributes:
        name: of the protocol.
        articles: whether "a {}" becomes "an {}" before a vowel.
        logit_scale: multiplies cosines in place of the learned scale; None for the learned one.
        caption_prefix: stands before every caption in retrieval.
        metric_names: whose names the metrics have.
    """

    name: str
    articles: bool = False
    logit_scale: float | None = None
    caption_prefix: str = ""
    metric_names: Literal["bifocal", "clip_benchmark"] = "bifocal"

    def settings(self) -> dict[str, object]:
        """Return all choices, for a record, which has the name by itself."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


PLAIN = Protocol("plain", articles=True)
PAPER = Protocol("paper", caption_prefix="a photo of ")
CLIP_BENCHMARK = Protocol("clip_benchmark", logit_scale=100.0, metric_names="clip_benchmark")
PROTOCOLS: Mapping[str, Protocol] = {one.name: one for one in (PLAIN, PAPER, CLIP_BENCHMARK)}

PAPER_METRICS: Mapping[str, Metric] = {
    "Food-101": "top1",
    "CIFAR-10": "top1",
    "CIFAR-100": "top1",
    "Birdsnap": "top1",
    "SUN397": "top1",
    "Stanford Cars": "top1",
    "FGVC Aircraft": "mean_per_class_recall",
    "Pascal VOC 2007": "map_at_11",
    "Describable Textures": "top1",
    "Oxford-IIIT Pets": "mean_per_class_recall",
    "Caltech-101": "mean_per_class_recall",
    "Oxford Flowers 102": "mean_per_class_recall",
    "MNIST": "top1",
    "FER2013": "top1",
    "STL-10": "top1",
    "EuroSAT": "top1",
    "RESISC45": "top1",
    "GTSRB": "top1",
    "KITTI": "top1",
    "Country211": "top1",
    "PatchCamelyon": "top1",
    "UCF101": "top1",
    "Kinetics700": "mean_of_top1_and_top5",
    "CLEVR Counts": "top1",
    "Hateful Memes": "roc_auc",
    "Rendered SST2": "top1",
    "ImageNet": "top1",
}
"""Data sets of the paper and what it counts on each: the column "evaluation metric" of the table of
27 data sets in its appendix A.1 (table 9), which is of linear probes; taken over for zero-shot. The
same metrics are in what others took from that table: SLIP's `eval_zeroshot.py` (Mu et al. 2021,
which scores Hateful Memes by the second class's logit less the first's, as here), AltCLIP's section
5.1 (arXiv 2211.06679), and table 8 of RealSyn (Gu et al. 2025)."""

_ALSO: Mapping[str, str] = {
    "cars": "Stanford Cars",
    "aircraft": "FGVC Aircraft",
    "voc2007": "Pascal VOC 2007",
    "dtd": "Describable Textures",
    "pets": "Oxford-IIIT Pets",
    "oxfordpets": "Oxford-IIIT Pets",
    "flowers102": "Oxford Flowers 102",
    "flowers": "Oxford Flowers 102",
    "pcam": "PatchCamelyon",
    "clevr": "CLEVR Counts",
    "sst2": "Rendered SST2",
    "imagenet1k": "ImageNet",
}


def protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(
            f"no protocol is called '{name}'{did_you_mean(name, PROTOCOLS)}; known are "
            f"{', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]


def paper_metric(data_set: str) -> Metric:
    """Return what the paper counts on a data set, by any usual spelling of its name.

    Raises:
        ConfigError: it is none of the paper's.
    """
    known = {_plain(name): name for name in PAPER_METRICS} | dict(_ALSO)
    found = known.get(_plain(data_set))
    if found is None:
        raise ConfigError(
            f"'{data_set}' is no data set of the paper's{did_you_mean(_plain(data_set), known)}; "
            f"they are {', '.join(PAPER_METRICS)}"
        )
    return PAPER_METRICS[found]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
