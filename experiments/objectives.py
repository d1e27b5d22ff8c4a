"""Paper section 2.3 and figure 2: what to train for, counted in pictures seen.

    python -m experiments objectives

The same image tower learns from the same pairs by four objectives: predicting the caption with the
text transformer, predicting the words that occur in it, comparing with a bag-of-words encoder, and
comparing with the text transformer, which is what became of the third. On drawn scenes: zero-shot
accuracy among 100 names of (colour, shape) with one prompt a name, on pictures of the combinations
that training shows and of the quarter that it never does. The predictive models answer by a name's
likelihood (evaluate.likelihood).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from experiments.claim import Claim, Comparison, Measure
from experiments.figures import Curve, Panel, draw_curves
from experiments.runs import ClaimSizes, Lab, Trained, by_arm, effort

WORDS = "model.text.kind=bag_of_words"
CAPTION, PREDICT, COMPARE, CLIP = (
    "caption prediction",
    "bag-of-words prediction",
    "bag-of-words contrastive",
    "contrastive (CLIP)",
)
ARMS: dict[str, tuple[str, ...]] = {
    CAPTION: ("loss.form=caption",),
    PREDICT: ("loss.form=bag_of_words", WORDS),
    COMPARE: ("loss.form=softmax", WORDS),
    CLIP: ("loss.form=softmax",),
}
"""Settings by objective."""
FASTER = (
    (PREDICT, CAPTION, "3 times fewer (figure 2)"),
    (COMPARE, PREDICT, "4 times fewer (figure 2)"),
)
"""Which objective needs fewer pictures than which, and how many times, by the paper."""


class Sizes(ClaimSizes):
    """The ground evaluates labelled sets on the way."""

    levels: tuple[float, ...]
    """Accuracies whose price in pictures is told."""


def arms(sets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the settings of every objective.

    A set of words is asked for the words of the name alone: an article would only tell "an orange"
    from "a red".
    """
    alone = [f'evaluate.zero_shot.{name}.templates=["{{}}"]' for name in sets]
    return {arm: (*some, *(alone if arm == PREDICT else ())) for arm, some in ARMS.items()}


def accuracy_curve(run: Trained, name: str) -> Curve:
    """Return pictures seen, and zero-shot accuracy on a labelled set; it begins at chance.

    The evaluation at the end is of all pictures of the set, those on the way of the first few.
    """
    steps, values = run.curve(f"{name}/top1")
    per_step = run.results["pairs"] / run.results["steps"]
    return [0.0, *(step * per_step for step in steps)], [run.metric(f"{name}/chance"), *values]


def pictures_to_reach(curve: Curve, accuracy: float) -> float:
    """Return how many pictures it took to reach an accuracy, between evaluations along a line.

    The first time counts; NaN if it is never reached.
    """
    for (x0, y0), (x1, y1) in pairwise(zip(*curve, strict=True)):
        if y0 >= accuracy:
            return x0
        if y1 >= accuracy:
            return x0 + (x1 - x0) * (accuracy - y0) / (y1 - y0)
    return math.nan


def times_fewer(
    fast: Sequence[Curve], slow: Sequence[Curve], levels: Sequence[float]
) -> tuple[float, tuple[float, ...], bool]:
    """Return a level, by how many doublings `fast` needs fewer pictures to reach it, by seed, and
    whether some run ended first.

    The level is the highest that all runs reach; else the lowest that all runs of one objective
    do, where what the other needs, bounded by the length of its runs, tells most. There may be
    none.
    """
    for both in (True, False):
        for level in sorted(levels, reverse=both):
            needs = [[pictures_to_reach(one, level) for one in runs] for runs in (fast, slow)]
            missed = [any(map(math.isnan, some)) for some in needs]
            if any(missed) and (both or all(missed)):
                continue
            ends = [[runs[0][0][-1]] * len(runs) for runs in (fast, slow)]
            known = [
                [end if math.isnan(need) else need for need, end in zip(some, last, strict=True)]
                for some, last in zip(needs, ends, strict=True)
            ]
            values = tuple(math.log2(b / a) for a, b in zip(*known, strict=True))
            return level, values, any(missed)
    return math.nan, (), False


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train every objective and compare the pictures that they need."""
    sets = tuple(lab.ground(sizes.ground).config().evaluate.zero_shot)
    found = lab.train(sizes.ground, arms(sets))
    curves = {
        name: {arm: [accuracy_curve(run, name) for run in runs] for arm, runs in found.items()}
        for name in sets
    }
    _draw(lab, curves)
    comparisons: list[Comparison] = []
    for name, arm_curves in curves.items():
        for fast, slow, paper in FASTER:
            level, values, bound = times_fewer(arm_curves[fast], arm_curves[slow], sizes.levels)
            goal = f"to {level:.0%}" if values else f"neither reaches {min(sizes.levels):.0%}"
            what = f"pictures needed, {slow} over {fast}: combinations {name}, {goal}"
            comparisons.append(Comparison(what, paper, "times", values, censored=bound))
    final = tuple(
        Measure(f"top-1 at the end, {name}, %", by_arm(found, f"{name}/top1", scale=100))
        for name in sets
    )
    pictures = found[CLIP][0].results["pairs"]
    return Claim(
        name="objectives",
        title="Comparing is more efficient than predicting",
        where="section 2.3, figure 2",
        paper="Zero-shot on ImageNet, counted in pictures seen: a transformer that predicts "
        "captions learns 3 times slower than a baseline that predicts their bag of words, and "
        "comparing with that bag of words is another 4 times as efficient.",
        here=f"{pictures:,} drawn scenes a training; zero-shot among 100 names of colour and "
        "shape (chance 1 %), on combinations that training shows and on those it never does.",
        measures=final,
        comparisons=tuple(comparisons),
        figure="Zero-shot accuracy against pictures seen, by objective, on both sets",
        larger="Longer runs, so that every objective passes the same accuracy and no figure is a "
        "bound; and captions of the web, whose variety of words is what the paper blames.",
        effort=effort(found),
    )


def _draw(lab: Lab, curves: Mapping[str, Mapping[str, Sequence[Curve]]]) -> None:
    panels = [
        Panel(
            f"combinations {name} in training",
            "zero-shot top-1, %",
            curves={
                arm: [([n / 1000 for n in x], [100 * one for one in y]) for x, y in some]
                for arm, some in runs.items()
            },
        )
        for name, runs in curves.items()
    ]
    draw_curves(lab.figure("objectives"), panels, "pictures seen, thousands")
