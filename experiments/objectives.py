"""Paper section 2.3 and figure 2: what to train for, counted in pictures seen.

    python -m experiments.objectives
    python -m experiments.objectives --recipe recipes/cifar10.toml --sets cifar10 \
        --out runs/experiments/objectives_cifar10 train.evaluate_every=78

The same image tower learns from the same pairs by four objectives: predicting the caption with the
text transformer, predicting the words that occur in it, comparing with a bag-of-words encoder, and
comparing with the text transformer, which is what became of the third. The paper's finding, on
ImageNet with 400 million pairs: words are predicted 3 times as efficiently as captions, and
compared 4 times as efficiently again. Here: drawn scenes, zero-shot accuracy among 100 names of
(colour, shape), of which a quarter was never shown together, with one prompt a name. The predictive
models answer by its likelihood (evaluate.likelihood).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiments.figures import Curve, draw_bands
from experiments.runs import Trained, train

WORDS = "model.text.kind=bag_of_words"
PREDICTS_WORDS = "bag-of-words prediction"
ARMS: dict[str, tuple[str, ...]] = {
    "caption prediction": ("loss.form=caption",),
    PREDICTS_WORDS: ("loss.form=bag_of_words", WORDS),
    "bag-of-words contrastive": ("loss.form=softmax", WORDS),
    "contrastive (CLIP)": ("loss.form=softmax",),
}
"""Settings by objective."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained on, and which labelled sets of the recipe are classified."""

    recipe: str
    sets: Sequence[str]
    overrides: Sequence[str]

    def settings(self, arm: str) -> list[str]:
        """Return the settings of an objective.

        A set of words is asked for the words of the name alone: an article would only tell "an
        orange" from "a red".
        """
        alone = [f'evaluate.zero_shot.{name}.templates=["{{}}"]' for name in self.sets]
        return [*ARMS[arm], *(alone if arm == PREDICTS_WORDS else ()), *self.overrides]


def arms(task: Task, out: Path, seeds: int) -> dict[str, list[Trained]]:
    """Train every objective, seed by seed."""
    found: dict[str, list[Trained]] = {name: [] for name in ARMS}
    for seed in range(seeds):
        for name in ARMS:
            folder = out / f"{name.replace(' ', '-').strip(')').replace('(', '')}-{seed}"
            settings = [f"seed={seed}", *task.settings(name)]
            found[name].append(train(task.recipe, folder, settings))
    return found


def accuracy_curve(run: Trained, name: str) -> Curve:
    """Return pictures seen, and zero-shot accuracy on a labelled set; it begins at chance.

    The evaluation at the end is of all pictures of the set, those on the way of the first few.
    """
    steps, values = run.curve(f"{name}/top1")
    per_step = run.results["pairs"] / run.results["steps"]
    chance = run.results["metrics"][f"{name}/chance"]
    return [0.0, *(step * per_step for step in steps)], [chance, *values]


def pictures_to_reach(curve: Curve, accuracy: float) -> float:
    """Return how many pictures it took to reach an accuracy, between evaluations along a line.

    The first time counts; NaN if it is never reached.
    """
    for (x0, y0), (x1, y1) in pairwise(zip(*curve, strict=True)):
        if y0 >= accuracy:
            return x0
        if y1 >= accuracy:
            return x0 + (x1 - x0) * (accuracy - y0) / (y1 - y0)
    return float("nan")


def efficiency(curves: Mapping[str, Sequence[Curve]], levels: Sequence[float]) -> list[str]:
    """Return one line an objective: pictures to each accuracy, the middle one of the seeds."""
    width = max(map(len, curves))
    lines = [" " * width + "".join(f"{level:>12.0%}" for level in levels)]
    for name, runs in curves.items():
        reached = [[pictures_to_reach(curve, level) for curve in runs] for level in levels]
        middle = [np.median(some) for some in reached]  # NaN if any seed falls short
        cells = (f"{'not reached':>12}" if np.isnan(n) else f"{n:>12,.0f}" for n in middle)
        lines.append(f"{name:{width}}" + "".join(cells))
    return lines


def main() -> None:
    """Train, print the pictures that each objective needs for some accuracies, and draw curves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="Settings of all runs, as train.steps=20.")
    parser.add_argument("--recipe", default="recipes/objectives.toml")
    parser.add_argument("--sets", nargs="+", default=["seen", "unseen"], help="Labelled sets.")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments/objectives"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/objectives.png"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.1, 0.2, 0.4, 0.6])
    options = parser.parse_args()
    task = Task(options.recipe, options.sets, options.overrides)
    found = arms(task, options.out, options.seeds)
    for name in task.sets:
        curves = {arm: [accuracy_curve(run, name) for run in runs] for arm, runs in found.items()}
        print(f"\npictures seen to reach a zero-shot accuracy: {name}")
        print("\n".join(efficiency(curves, options.levels)))
        for arm, runs in found.items():
            final = ", ".join(f"{run.results['metrics'][f'{name}/top1']:.1%}" for run in runs)
            print(f"  {arm}: {final} at the end; {np.mean([r.seconds for r in runs]):.0f} s each")
        figure = options.figure.with_stem(f"{options.figure.stem}_{name}")
        draw_bands(figure, curves, "pictures seen", f"zero-shot accuracy: {name}")


if __name__ == "__main__":
    main()
