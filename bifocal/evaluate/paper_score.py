"""What the paper counts on a data set (`protocol.PAPER_METRICS`), of one zero-shot classification.

Hateful Memes is scored by the area under the receiver's curve of the second class's logit less the
first's. Pascal VOC 2007's pictures may be of several classes: what the paper counts there is among
the metrics of `multi_label.MultiLabelResult`.
"""

from __future__ import annotations

from bifocal.errors import ConfigError
from bifocal.evaluate.metrics import mean_over_classes, roc_auc, share
from bifocal.evaluate.protocol import Metric
from bifocal.evaluate.resampling import percentile_interval, roc_auc_of
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval
from bifocal.evaluate.zero_shot import FIVE, ZeroShotResult


def paper_score(result: ZeroShotResult, metric: Metric) -> float:
    """Return what the paper counts on a data set.

    Raises:
        ConfigError: pictures of one class each cannot be scored so, or there are not two
            classes for a receiver's curve.
    """
    check_score(metric, len(result.class_names))
    first, five = (result.ranks() < k for k in (1, FIVE))
    match metric:
        case "mean_per_class_recall":
            return mean_over_classes(first, result.labels)
        case "mean_of_top1_and_top5":
            return (share(first) + share(five)) / 2
        case "roc_auc":
            return roc_auc(result.logits[:, 1] - result.logits[:, 0], result.labels == 1)
        case _:
            return share(first)


def paper_interval(
    result: ZeroShotResult, metric: Metric, plan: Bootstrap = STANDARD
) -> Interval | None:
    """Return what the paper counts with its interval; None where it has none."""
    check_score(metric, len(result.class_names))
    first, five = (result.ranks() < k for k in (1, FIVE))
    match metric:
        case "mean_per_class_recall":
            return interval(first, classes=result.labels, plan=plan)
        case "mean_of_top1_and_top5":
            return interval((first.double() + five.double()) / 2, plan=plan)
        case "roc_auc":
            scores, positive = result.logits[:, 1] - result.logits[:, 0], result.labels == 1
            area = roc_auc_of(scores, positive)
            kinds = positive.long()
            return percentile_interval(area, len(scores), classes=kinds, plan=plan)
        case _:
            return interval(first, plan=plan)


def check_score(metric: Metric, classes: int, *, multi_label: bool = False) -> None:
    """Raise ConfigError if pictures of so many classes, of one each or of several, have no score.

    Args:
        metric: what the paper counts.
        classes: how many there are to choose from.
        multi_label: whether pictures may be of several.
    """
    if metric == "map_at_11" and not multi_label:
        raise ConfigError(
            "the paper scores this set by precision (11-point mAP) over several classes a picture; "
            "pictures here have one class each: say --multi-label if NAME.cls lists several, else "
            "leave --dataset out"
        )
    if multi_label and metric != "map_at_11":
        raise ConfigError(
            "the paper scores this set by the one class of a picture, and pictures here may be of "
            "several: leave --multi-label or --dataset out"
        )
    if metric == "mean_of_top1_and_top5" and classes < FIVE:
        raise ConfigError(
            f"the paper scores this set by the mean of top-1 and top-5, and these are {classes} "
            "classes, of which five guesses are always right: leave --dataset out"
        )
    if metric == "roc_auc" and classes != 2:
        raise ConfigError(
            "the paper scores this set by a receiver's curve, which needs two classes, the second "
            f"the one looked for; these are {classes}"
        )
