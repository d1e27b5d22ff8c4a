"""Linear probes: how well a linear classifier reads the features of a frozen image tower.

Radford et al. 2021, appendix A.3. The strength of the penalty is chosen on a validation split from
96 steps between 1e-6 and 1e6 (`sweep`); the classifier is then fitted again, to training and
validation split together, and tested once. Few-shot probes are fitted to their few examples alone.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Bool, Int
from torch import Tensor

from bifocal.embed import Kind
from bifocal.errors import ConfigError
from bifocal.evaluate.frozen import Labelled, check_classes
from bifocal.evaluate.logistic import MAX_ITERATIONS, LogisticFit, LogisticProblem
from bifocal.evaluate.metrics import mean_over_classes, rank_of_best, share
from bifocal.evaluate.splits import few_shot, stratified
from bifocal.evaluate.statistics import Bootstrap, Interval, interval
from bifocal.evaluate.sweep import best_strength, sweep

Metric = Literal["top1", "mean_per_class"]

PAPER, FEW_SHOT = "radford-2021-A.3", "few-shot"


@dataclass(frozen=True, slots=True)
class Probe:
    """How a probe is made.

    Attributes:
        metric: share of pictures that are right, or its mean over classes.
        held_out: share of each training class to choose C by, where no validation is given.
        seed: of the splits and of the interval's resamples.
        max_iterations: L-BFGS steps of one fit.
    """

    metric: Metric = "top1"
    held_out: float = 0.2
    seed: int = 0
    max_iterations: int = MAX_ITERATIONS

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out is {self.held_out}; it is a share between 0 and 1")


@dataclass(frozen=True, slots=True)
class LinearProbeResult:
    """Accuracy on the test pictures, and how the classifier came about."""

    accuracy: float
    interval: Interval
    C: float
    swept: tuple[tuple[float, float], ...]
    """(C, validation accuracy) of every value tried, in rising order of C."""
    protocol: str
    metric: Metric
    features: Kind
    seed: int
    classes: int
    train: int
    validation: int
    test: int
    held_out: float | None
    """Share of the training examples that C was chosen by; None where others were given."""
    unconverged: int
    """Fits that ended at the limit of iterations, or where float32 could go no further."""
    right: Bool[Tensor, " images"]
    """Which test pictures are right, to compare models on the same ones."""


@dataclass(frozen=True, slots=True)
class FewShotResult:
    """Probes of a few examples a class, drawn several times."""

    shots: int
    mean: float
    std: float | None
    """Standard deviation over the draws; None of a single one."""
    results: tuple[LinearProbeResult, ...]


def linear_probe(
    train: Labelled, test: Labelled, validation: Labelled | None = None, probe: Probe | None = None
) -> LinearProbeResult:
    """Return the accuracy of a linear classifier on frozen features, by the paper's protocol.

    Args:
        train: what the classifier learns from.
        test: what it is tested on, once.
        validation: what C is chosen by; a stratified part of `train` if None.
        probe: metric, seed and limits.

    Raises:
        DataError: the sets are of different classes, there is only one, or none can be held out.
    """
    probe = probe or Probe()
    check_classes(train, test, "test")
    if validation is None:
        rows, held_out = stratified(train.labels, probe.held_out, probe.seed)
        learned, chosen_by = train.take(rows), train.take(held_out)
    else:
        check_classes(train, validation, "validation")
        learned, chosen_by = train, validation
    found = _probe(learned, chosen_by, test, probe, PAPER, merge=True)
    return replace(found, held_out=probe.held_out) if validation is None else found


def few_shot_probe(
    train: Labelled,
    test: Labelled,
    shots: int,
    validation: Labelled | None = None,
    *,
    repeats: int = 3,
    probe: Probe | None = None,
) -> FewShotResult:
    """Return the accuracies of classifiers that learn from `shots` examples a class.

    C is chosen by `validation`, or by min(shots, 4) more examples a class of `train`, which the
    classifier does not learn from.

    Args:
        train, test, validation: as for `linear_probe`.
        shots: examples a class.
        repeats: draws of the examples, with the seeds seed, seed + 1, …
        probe: metric, seed and limits.

    Raises:
        DataError: as `linear_probe`, or a class has fewer examples than that.
    """
    probe = probe or Probe()
    check_classes(train, test, "test")
    if validation is not None:
        check_classes(train, validation, "validation")
    results: list[LinearProbeResult] = []
    for seed in range(probe.seed, probe.seed + repeats):
        rows, others = few_shot(
            train.labels, train.class_names, shots, seed, choose=validation is None
        )
        once = replace(probe, seed=seed)
        chosen_by = train.take(others) if validation is None else validation
        protocol = f"{FEW_SHOT}-{shots}"
        results.append(_probe(train.take(rows), chosen_by, test, once, protocol, merge=False))
    found = [result.accuracy for result in results]
    std = statistics.stdev(found) if len(found) > 1 else None
    return FewShotResult(shots, statistics.fmean(found), std, tuple(results))


class _Fitter:
    """Fits to one set of examples, each begun at the fit of the nearest C."""

    def __init__(self, examples: Labelled, limit: int, start: LogisticFit | None = None) -> None:
        self.present, labels = examples.labels.unique(return_inverse=True)
        self._problem = LogisticProblem(examples.features, labels)
        self._limit, self._start = limit, start
        self.fits: dict[float, LogisticFit] = {}

    def right(self, c: float, examples: Labelled) -> Bool[Tensor, " images"]:
        """Return which examples the classifier of strength `c` has right; a tie is wrong."""
        if c not in self.fits:
            near = min(self.fits, key=lambda other: abs(math.log(other / c)), default=None)
            start = self._start if near is None else self.fits[near]
            self.fits[c] = self._problem.fit(c, start, max_iterations=self._limit)
        own = examples.labels[:, None] == self.present
        return rank_of_best(self.fits[c].logits(examples.features), own) == 0


def _probe(
    learned: Labelled,
    chosen_by: Labelled,
    test: Labelled,
    probe: Probe,
    protocol: str,
    *,
    merge: bool,
) -> LinearProbeResult:
    search = _Fitter(learned, probe.max_iterations)
    swept = sweep(
        lambda c: score(search.right(c, chosen_by), chosen_by.labels, probe.metric),
    )
    best = best_strength(swept)
    fits = [*search.fits.values()]
    last = search
    if merge:
        last = _Fitter(learned.join(chosen_by), probe.max_iterations, search.fits[best])
    right = last.right(best, test).cpu()
    fits += [last.fits[best]] if merge else []
    classes = test.labels if probe.metric == "mean_per_class" else None
    found = interval(right, classes=classes, plan=Bootstrap(seed=probe.seed))
    return LinearProbeResult(
        accuracy=found.value,
        interval=found,
        C=best,
        swept=tuple(swept.items()),
        protocol=protocol,
        metric=probe.metric,
        features=learned.kind,
        seed=probe.seed,
        classes=len(search.present),
        train=len(learned),
        validation=len(chosen_by),
        test=len(test),
        held_out=None,
        unconverged=sum(not fit.converged for fit in fits),
        right=right,
    )


def score(right: Bool[Tensor, " images"], labels: Int[Tensor, " images"], metric: Metric) -> float:
    """Return the share that is right, or its mean over the classes that occur."""
    return share(right) if metric == "top1" else mean_over_classes(right, labels)
