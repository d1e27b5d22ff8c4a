"""Linear probes as CLIP_benchmark makes them: AdamW for a few epochs on unit features.

The same figures as that program's `linear_probe` without mixed precision, from the same features,
seed and release of torch: its weights at the start, order of examples, learning rate, and search
for the weight decay, which falls on the bias too. It shuffles the training examples by what random
numbers it has left after it made the model; here, as there with features from its cache, the seed
alone decides. Where it asks for CUDA, this runs anywhere. The paper's own probe, by L-BFGS, is
`linear_probe`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import random_split

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.decays import DECAYS, search
from bifocal.evaluate.frozen import Labelled, check_classes
from bifocal.evaluate.metrics import mean_over_classes, share
from bifocal.evaluate.statistics import Bootstrap, Interval, interval

TOP = 5


@dataclass(frozen=True, slots=True)
class AdamWProbe:
    """How a probe is made; the defaults are CLIP_benchmark's.

    Attributes:
        learning_rate: at the first step; falls to zero as a half cosine.
        epochs: passes over the examples.
        batch_size: examples a step.
        shots: examples a class to learn from; all if None.
        held_out: share of the training examples to choose the weight decay by, where no
            validation is given; it is 0 if None.
        seed: of the weights at the start, the order of examples and the interval's resamples.
    """

    learning_rate: float = 0.1
    epochs: int = 10
    batch_size: int = 64
    shots: int | None = None
    held_out: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out is not None and not 0 < self.held_out < 1:
            raise ConfigError(f"held_out is {self.held_out}; it is a share between 0 and 1")
        least = min(self.epochs, self.batch_size, self.shots or 1)
        if least < 1 or not self.learning_rate > 0:
            raise ConfigError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, shots {self.shots}, "
                f"learning_rate {self.learning_rate}: all are above zero"
            )


@dataclass(frozen=True, slots=True)
class AdamWProbeResult:
    """What a probe says of every test picture, and how it came about."""

    logits: Float[Tensor, "images classes"]
    labels: Int[Tensor, " images"]
    weight_decay: float
    swept: tuple[tuple[float, float], ...]
    """(weight decay, validation accuracy) of every value tried, in rising order."""
    probe: AdamWProbe
    train: int
    validation: int

    def outcomes(self) -> dict[str, Bool[Tensor, " images"]]:
        """Return, for each metric, which pictures are right; ties as `topk` breaks them."""
        found = {"lp_acc1": _found(self.logits, self.labels, 1)}
        # As in CLIP_benchmark, six classes must occur before five guesses are counted.
        if int(self.labels.max()) >= TOP:
            found["lp_acc5"] = _found(self.logits, self.labels, TOP)
        return found | {"lp_mean_per_class_recall": self.logits.argmax(dim=1) == self.labels}

    def metrics(self) -> dict[str, float]:
        """Return CLIP_benchmark's metrics; `lp_acc5` is no number for five classes or fewer."""
        found = self.outcomes()
        classes = "lp_mean_per_class_recall"
        return {
            "lp_acc1": share(found["lp_acc1"]),
            "lp_acc5": share(found["lp_acc5"]) if "lp_acc5" in found else math.nan,
            classes: mean_over_classes(found[classes], self.labels),
        }

    def intervals(self) -> dict[str, Interval]:
        """Return the confidence intervals of the metrics, drawn with the probe's seed."""
        plan = Bootstrap(seed=self.probe.seed)
        classes = {"lp_mean_per_class_recall": self.labels}
        return {
            name: interval(right, classes=classes.get(name), plan=plan)
            for name, right in self.outcomes().items()
        }


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear classifier."""

    weights: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]

    def __call__(self, features: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        """Return logits."""
        return F.linear(features, self.weights, self.bias)


def adamw_probe(
    train: Labelled, test: Labelled, validation: Labelled | None, probe: AdamWProbe
) -> AdamWProbeResult:
    """Return what a linear classifier on frozen features says of the test pictures.

    Args:
        train: what the classifier learns from.
        test: what it is tested on, once.
        validation: what the weight decay is chosen by; see `AdamWProbe.held_out` if None. It is
            then learned from too, unless examples are few on purpose.
        probe: all that is to be chosen.

    Raises:
        DataError: a class has fewer examples than `shots`, there is one class only, or the sets are
            of different classes.
    """
    _check(train, {"test": test} | ({"validation": validation} if validation else {}))
    draws = torch.Generator().manual_seed(probe.seed)
    if validation is None and probe.held_out is not None:
        shares = [1 - probe.held_out, probe.held_out]
        if int(len(train) * probe.held_out) < 1:
            raise DataError(
                f"{len(train)} training examples have no part of {probe.held_out} to choose by: "
                "hold out more, or give a validation source"
            )
        parts = random_split(range(len(train)), shares, generator=draws)  # type: ignore[arg-type]
        rows, others = (torch.tensor(part.indices, dtype=torch.long) for part in parts)
        if not len(rows) or not len(others):
            raise DataError(f"{len(train)} examples do not divide into shares of {shares}")
        train, validation = train.take(rows), train.take(others)
    classes = int(train.labels.max()) + 1
    order = torch.randperm(len(train), generator=draws)
    if probe.shots is not None:
        order = order[_first_of_class(train, order, probe.shots)]
    learned = train.take(order)
    swept: dict[int, float] = {}
    best = 0.0
    if validation is not None:
        best = DECAYS[search(lambda n: _score(learned, validation, classes, n, probe), swept)]
        learned = learned.join(validation) if probe.shots is None else learned
    fitted = fit(learned, classes, best, probe)
    return AdamWProbeResult(
        logits=fitted(test.features).cpu(),
        labels=test.labels.cpu(),
        weight_decay=best,
        swept=tuple((DECAYS[n], swept[n]) for n in sorted(swept)),
        probe=probe,
        train=len(order),
        validation=0 if validation is None else len(validation),
    )


def _check(train: Labelled, others: Mapping[str, Labelled]) -> None:
    if len(train.labels.unique()) < 2:
        raise DataError("all training examples are of one class: a classifier needs two at least")
    for name, other in others.items():
        check_classes(train, other, name)


def fit(train: Labelled, classes: int, weight_decay: float, probe: AdamWProbe) -> Linear:
    """Return the classifier after the given number of epochs.

    Every random number is the one that `torch.nn.Linear` and a shuffling `DataLoader` would draw
    after `torch.manual_seed(seed)`, without touching the generator that everybody shares.
    """
    draws = torch.Generator().manual_seed(probe.seed)
    dim = train.features.shape[1]
    weights, bias = torch.empty(classes, dim), torch.empty(classes)
    torch.nn.init.kaiming_uniform_(weights, a=math.sqrt(5), generator=draws)
    bias.uniform_(-1 / math.sqrt(dim), 1 / math.sqrt(dim), generator=draws)
    device = train.features.device
    weights, bias = weights.to(device).requires_grad_(), bias.to(device).requires_grad_()
    optimizer = torch.optim.AdamW(
        [weights, bias], lr=probe.learning_rate, weight_decay=weight_decay
    )
    batches = math.ceil(len(train) / probe.batch_size)
    rows: Sequence[Tensor] = ()
    for step in range(probe.epochs * batches):
        if step % batches == 0:
            _draw(draws)  # the loader's own seed, which nothing uses
            shuffle = torch.Generator().manual_seed(_draw(draws))
            rows = torch.randperm(len(train), generator=shuffle).split(probe.batch_size)
        rate = 0.5 * (1 + np.cos(np.pi * step / (probe.epochs * batches))) * probe.learning_rate
        optimizer.param_groups[0]["lr"] = float(rate)
        some = train.take(rows[step % batches].to(device))
        optimizer.zero_grad()
        F.cross_entropy(F.linear(some.features, weights, bias), some.labels).backward()
        optimizer.step()
    return Linear(weights.detach(), bias.detach())


def _score(train: Labelled, other: Labelled, classes: int, n: int, probe: AdamWProbe) -> float:
    fitted = fit(train, classes, DECAYS[n], probe)
    return share(_found(fitted(other.features), other.labels, 1))


def _found(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"], k: int
) -> Bool[Tensor, " images"]:
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)


def _first_of_class(
    train: Labelled, order: Int[Tensor, " examples"], shots: int
) -> Bool[Tensor, " examples"]:
    """Return which places of an order hold one of the first `shots` examples of a class."""
    labels = train.labels[order].cpu()
    own = labels[:, None] == labels.unique()
    if int(own.sum(dim=0).min()) < shots:
        name = train.class_names[int(labels.unique()[own.sum(dim=0).argmin()])]
        raise DataError(
            f"class '{name}' has {int(own.sum(dim=0).min())} training example(s): {shots} shots "
            "need as many in every class"
        )
    return (own & (own.cumsum(dim=0) <= shots)).any(dim=1)


def _draw(generator: torch.Generator) -> int:
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))
