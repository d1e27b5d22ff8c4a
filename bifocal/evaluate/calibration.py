"""Do probabilities mean what they say: calibration of a classifier.

A classifier is calibrated if, of the pictures that it names with confidence p, the share p is
right (Guo et al. 2017, arXiv 1706.04599). The expected calibration error bins pictures by the
confidence of their best class:

    ECE = Σ_b n_b / n · |accuracy_b - confidence_b|

in bins of equal width, or of equally many pictures (Nguyen & O'Connor 2015), where a few crowded
bins cannot hide the rest. The error depends on the number of bins and is biased upwards where
they hold few pictures. The negative log-likelihood and the Brier score (Σ_c (p_c - y_c)², between
0 and 2) need no bins and are lowest for the true probabilities.

Knows logits and labels; knows nothing of models or pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.resampling import Statistic, percentile_interval
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Interval, interval

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Pictures of about the same confidence; an empty bin has no means."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities are from frequencies.

    Attributes:
        ece: expected calibration error, bins of equal width.
        ece_equal_mass: the same, bins of equally many pictures.
        nll: mean of -ln p(own class); infinite where that was given no chance at all.
        brier: mean of Σ_c (p_c - y_c)².
        confidence: mean of the best class's probability.
        accuracy: share of pictures whose best class is their own.
        equal_width, equal_mass: the bins of a reliability diagram.
    """

    ece: float
    ece_equal_mass: float
    nll: float
    brier: float
    confidence: float
    accuracy: float
    equal_width: tuple[Bin, ...]
    equal_mass: tuple[Bin, ...]

    def metrics(self) -> dict[str, float]:
        """Return the figures that are one number each."""
        names = ("ece", "ece_equal_mass", "nll", "brier", "confidence")
        return {name: getattr(self, name) for name in names}

    def diagram(self) -> dict[str, list[dict[str, float | None]]]:
        """Return the bins as JSON tables."""
        return {
            name: [asdict(one) for one in getattr(self, name)]
            for name in ("equal_width", "equal_mass")
        }


def calibration(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"], bins: int = BINS
) -> Calibration:
    """Return the calibration of softmax(logits).

    A class that ties with the picture's own for the best counts as chosen before it.

    Args:
        logits: scaled as they are used.
        labels: class of each picture.
        bins: of a reliability diagram.

    Raises:
        DataError: a logit is not finite.
        ConfigError: there is no bin.
    """
    if bins < 1:
        raise ConfigError(f"{bins} bins: calibration needs one at least")
    if not bool(logits.isfinite().all()):
        raise DataError("some logits are not finite: the model is damaged or has diverged")
    scores = proper_scores(logits, labels)
    confidence, right = _confidence(logits, labels)
    by_width = _by_width(confidence, right, bins)
    by_mass = _by_mass(confidence, right, bins)
    return Calibration(
        ece=_error(by_width),
        ece_equal_mass=_error(by_mass),
        nll=scores["nll"].mean().item(),
        brier=scores["brier"].mean().item(),
        confidence=confidence.mean().item(),
        accuracy=right.mean().item(),
        equal_width=by_width,
        equal_mass=by_mass,
    )


def proper_scores(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]
) -> dict[str, Float64[Tensor, " images"]]:
    """Return each picture's -ln p(own class) and Σ_c (p_c - y_c)², whose means are the figures."""
    log_p = logits.double().log_softmax(dim=1)
    own = log_p.gather(1, labels[:, None])[:, 0]
    # Σ (p - y)² = Σ p² - 2 p_own + 1
    brier = log_p.exp().square().sum(dim=1) - 2 * own.exp() + 1
    return {"nll": 0.0 - own, "brier": brier}


def calibration_intervals(
    logits: Float[Tensor, "images classes"],
    labels: Int[Tensor, " images"],
    plan: Bootstrap = STANDARD,
    bins: int = BINS,
) -> dict[str, Interval]:
    """Return the intervals of the figures, over pictures; one picture alone has none.

    Bins stay as they are while pictures are drawn.
    """
    if len(labels) < 2:
        return {}
    confidence, right = _confidence(logits, labels)
    found = {
        name: interval(values, plan=plan)
        for name, values in proper_scores(logits, labels).items()
        if bool(values.isfinite().all())
    }
    found["confidence"] = interval(confidence, plan=plan)
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    by_width = torch.searchsorted(edges[1:-1].contiguous(), confidence)
    by_mass = torch.empty_like(by_width)
    for n, part in enumerate(_parts(confidence, right, bins)):
        by_mass[part] = n
    for name, place in (("ece", by_width), ("ece_equal_mass", by_mass)):
        gaps = _gap_of(place, right - confidence, bins)
        one = percentile_interval(gaps, len(labels), plan=plan)
        found |= {name: one} if one else {}
    return found


def _gap_of(
    place: Int[Tensor, " images"], gaps: Float64[Tensor, " images"], bins: int
) -> Statistic:
    def error(weights: Float64[Tensor, "rows images"]) -> Float64[Tensor, " rows"]:
        sums = weights.new_zeros(len(weights), bins).index_add(1, place, weights * gaps)
        return sums.abs().sum(dim=1) / weights.sum(dim=1)

    return error


def _confidence(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]
) -> tuple[Float64[Tensor, " images"], Float64[Tensor, " images"]]:
    """Return the best class's probability, and 1 where it is the picture's own alone."""
    confidence = logits.double().softmax(dim=1).amax(dim=1)
    right = (~(logits < logits.gather(1, labels[:, None]))).sum(dim=1) == 1
    return confidence, right.double()


def _by_width(
    confidence: Float64[Tensor, " images"], right: Float64[Tensor, " images"], bins: int
) -> tuple[Bin, ...]:
    """Bins (k / bins, (k + 1) / bins]."""
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    place = torch.searchsorted(edges[1:-1].contiguous(), confidence)
    return tuple(
        _bin(edges[n].item(), edges[n + 1].item(), confidence[place == n], right[place == n])
        for n in range(bins)
    )


def _by_mass(
    confidence: Float64[Tensor, " images"], right: Float64[Tensor, " images"], bins: int
) -> tuple[Bin, ...]:
    """Bins of equally many pictures, up to one, in the order of confidence.

    Of equally confident pictures the wrong ones come first, so that the order of the data does not
    decide.
    """
    return tuple(
        _bin(confidence[part[0]].item(), confidence[part[-1]].item(), confidence[part], right[part])
        for part in _parts(confidence, right, bins)
    )


def _parts(
    confidence: Float64[Tensor, " images"], right: Float64[Tensor, " images"], bins: int
) -> tuple[Int[Tensor, " some"], ...]:
    order = right.argsort(stable=True)
    order = order[confidence[order].argsort(stable=True)]
    return order.tensor_split(min(bins, len(order)))


def _bin(low: float, high: float, confidence: Tensor, right: Tensor) -> Bin:
    if not len(confidence):
        return Bin(low, high, 0, None, None)
    return Bin(low, high, len(confidence), confidence.mean().item(), right.mean().item())


def _error(bins: tuple[Bin, ...]) -> float:
    """Return Σ n_b / n · |accuracy_b - confidence_b|."""
    total = sum(one.images for one in bins)
    gaps = (
        one.images * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )
    return sum(gaps) / total
