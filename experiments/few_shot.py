"""Paper section 3.1.5, figures 6 and 7: how many labelled examples a class is zero-shot worth?

    python -m experiments few_shot

No training of its own. Linear probes by the paper's protocol learn from 1, 2, 4 … examples a class,
on the very features that zero-shot compares with names; between them accuracy is interpolated
against the logarithm of their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import model_validator

from bifocal.evaluate.frozen import Labelled
from bifocal.evaluate.linear_probe import Probe, few_shot_probe
from bifocal.settings import Settings
from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_curves
from experiments.models import labelled, opened_model, zero_shot_top1
from experiments.runs import ClaimSizes, Lab, Trained, effort

PAPER_SHOTS = 4
Probed = tuple[float, list[float]]
"""Accuracy of zero-shot, and of probes by number of examples."""


class Task(Settings):
    """Labelled pictures to learn from and to test on."""

    ground: str
    arm: tuple[str, ...] = ()
    """The ground's overrides, where the models are those of another claim's arm."""
    train: str
    test: str
    templates: tuple[str, ...] = ("a photo of a {}.",)


class Sizes(ClaimSizes):
    """The ground is that of the first task; others name their own."""

    tasks: dict[str, Task]
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    repeats: int = 3
    """Draws of the examples."""

    @model_validator(mode="after")
    def _check(self) -> Sizes:
        if PAPER_SHOTS not in self.shots:
            raise ValueError(f"shots are {self.shots}: {PAPER_SHOTS} must be among them")
        return self


def worth(shots: Sequence[int], accuracies: Sequence[float], zero_shot: float) -> float:
    """Return how many examples a class reach the accuracy of zero-shot, log-linearly between.

    Below the fewest or above the most examples that were tried, that number: a bound.
    """
    if zero_shot <= accuracies[0]:
        return float(shots[0])
    for (n0, a0), (n1, a1) in pairwise(zip(shots, accuracies, strict=True)):
        if a1 >= zero_shot:
            share = (zero_shot - a0) / (a1 - a0)
            return 2 ** (math.log2(n0) + share * (math.log2(n1) - math.log2(n0)))
    return float(shots[-1])


def probed(run: Trained, task: Task, sizes: Sizes) -> Probed:
    """Return the accuracy of zero-shot, and of probes by number of examples, in per cent.

    Zero-shot chooses among the classes that occur in the test pictures, as the probes do.
    """
    model = opened_model(run)
    test = labelled(run, model, task.test)
    train = labelled(run, model, task.train, seed=1)  # of scenes: other pictures than the test's
    zero_shot = 100 * zero_shot_top1(model, test, task.templates, among_present=True)
    known = train.take(torch.isin(train.labels, test.labels).nonzero().flatten())
    return zero_shot, [_probe(known, test, shots, sizes.repeats) for shots in sizes.shots]


def _probe(train: Labelled, test: Labelled, shots: int, repeats: int) -> float:
    return 100 * few_shot_probe(train, test, shots, repeats=repeats, probe=Probe()).mean


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Probe every task, and find where the probes reach zero-shot."""
    runs = {name: lab.train(task.ground, {"": task.arm})[""] for name, task in sizes.tasks.items()}
    found = {
        name: [probed(run, task, sizes) for run in runs[name]] for name, task in sizes.tasks.items()
    }
    _draw(lab, sizes.shots, found)
    four = sizes.shots.index(PAPER_SHOTS)
    equal = {
        name: tuple(worth(sizes.shots, some, zero) for zero, some in results)
        for name, results in found.items()
    }
    return Claim(
        name="few_shot",
        title="Zero-shot is worth several labelled examples a class",
        where="section 3.1.5, figures 6 and 7",
        paper="Zero-shot matches a linear classifier on the same features that learns from 4 "
        "examples a class, on average over 20 data sets; by data set it is worth from less than 1 "
        "to 184 examples, 5.4 in the median.",
        here="Zero-shot and probes of the projected features, on "
        + "; ".join(
            f"{name} ({task.test}, models of the ground {task.ground})"
            for name, task in sizes.tasks.items()
        )
        + f". Where zero-shot is worth fewer than {sizes.shots[0]} or more than {sizes.shots[-1]} "
        "examples, that number stands for it.",
        measures=(
            *(Measure(f"{name}, %", _rows(sizes.shots, some)) for name, some in found.items()),
            *(Measure(f"{name}: worth", {"zero-shot": some}) for name, some in equal.items()),
        ),
        comparisons=tuple(
            Comparison(
                f"zero-shot − a probe of {PAPER_SHOTS} a class: {name}",
                "as good (bound here: −1 point)",
                "points",
                paired([zero for zero, _ in results], [some[four] for _, some in results]),
                "above",
                -1.0,
            )
            for name, results in found.items()
        ),
        figure="Accuracy of linear probes by examples a class beside that of zero-shot",
        larger="Models that know a data set's classes from captions alone, and more data sets than "
        "these: the paper's own range is from less than one example to 184.",
        effort=effort(runs),
    )


def _draw(lab: Lab, shots: tuple[int, ...], found: dict[str, list[Probed]]) -> None:
    panels = [
        Panel(
            name,
            "accuracy, %",
            curves={
                "linear probe": [(shots, some) for _, some in results],
                "zero-shot": [(shots, [zero] * len(shots)) for zero, _ in results],
            },
            ticks={one: str(one) for one in shots},
        )
        for name, results in found.items()
    ]
    draw_curves(lab.figure("few_shot"), panels, "labelled examples a class", log=True)


def _rows(shots: tuple[int, ...], results: list[Probed]) -> dict[str, tuple[float, ...]]:
    names = ["zero-shot", *(f"{count} a class" for count in shots)]
    return dict(
        zip(names, zip(*((zero, *some) for zero, some in results), strict=True), strict=True)
    )
