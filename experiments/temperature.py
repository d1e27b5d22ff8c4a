"""Paper section 2.5: the temperature is learned, from 0.07, and clipped where logits reach 100.

    python -m experiments temperature

Learning it is to spare a hyperparameter: from a good start it should lose nothing against the same
temperature kept, from a bad one it should gain. The clip was found necessary against instability:
the run that starts at it is repeated without it.
"""

from __future__ import annotations

from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_dots
from experiments.runs import ClaimSizes, Lab, Trained, by_arm, effort

PAPER = 0.07
UNCLIPPED = "learned, no clip"


class Sizes(ClaimSizes):
    """The ground has one labelled set."""

    bad_start: float = 0.01
    """The other temperature to begin at: 0.01 is where the clip is."""


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train with the temperature learned or kept, from both starts, and without the clip."""
    kept = "loss.learn_temperature=false"
    start = f"model.init_temperature={sizes.bad_start:g}"
    good, bad = f"from {PAPER:g}", f"from {sizes.bad_start:g}"
    arms = {
        f"learned, {good}": (),
        f"kept, {good}": (kept,),
        f"learned, {bad}": (start,),
        f"kept, {bad}": (start, kept),
        f"{UNCLIPPED}, {bad}": (start, "loss.max_logit_scale=inf"),
    }
    found = lab.train(sizes.ground, arms)
    (name,) = lab.ground(sizes.ground).config().evaluate.zero_shot
    top1 = by_arm(found, f"{name}/top1", scale=100)
    scale = {arm: tuple(_scales(run)[-1] for run in runs) for arm, runs in found.items()}
    most = {arm: tuple(max(_scales(run)) for run in runs) for arm, runs in found.items()}
    draw_dots(lab.figure("temperature"), [Panel("", "zero-shot top-1, %", top1)])
    first = next(iter(found.values()))[0].results
    return Claim(
        name="temperature",
        title="A learned temperature spares a hyperparameter",
        where="sections 2.3 and 2.5",
        paper="The temperature is learned as a log-parameterised multiplier of the logits, so that "
        "it need not be searched. It starts at 0.07; clipping the multiplier at 100 was necessary "
        "against instability. No figures.",
        here=f"{first['pairs']:,} pairs a training, {first['steps']} steps; learned or kept, from "
        f"{PAPER:g} or from {sizes.bad_start:g}, and the last without the clip.",
        measures=(
            Measure("zero-shot top-1, %", top1),
            Measure("multiplier at the end", scale),
            Measure("largest logged multiplier", most),
        ),
        comparisons=_comparisons(top1, good, bad),
        figure="Zero-shot accuracy with the temperature learned or kept, from two starts",
        larger="Adam moves the logarithm by at most the learning rate a step: from 0.07 to the "
        "clip it is ln(100 · 0.07) = 1.9 away, a thousand steps and more at the rates here, and "
        "only if the loss asks for it all the way. A test of the clip needs tens of thousands.",
        effort=effort(found),
    )


def _comparisons(top1: dict[str, tuple[float, ...]], good: str, bad: str) -> tuple[Comparison, ...]:
    return (
        Comparison(
            f"learned − kept, {good}",
            "no worse (bound here: −1 point)",
            "points",
            paired(top1[f"learned, {good}"], top1[f"kept, {good}"]),
            "above",
            -1.0,
        ),
        Comparison(
            f"learned − kept, {bad}",
            "learning makes up for the start (no figure)",
            "points",
            paired(top1[f"learned, {bad}"], top1[f"kept, {bad}"]),
        ),
        Comparison(
            f"learned with the clip − without, {bad}",
            "unstable without (no figure)",
            "points",
            paired(top1[f"learned, {bad}"], top1[f"{UNCLIPPED}, {bad}"]),
        ),
    )


def _scales(run: Trained) -> list[float]:
    """Return the logged multipliers of the logits."""
    return run.curve("logit_scale", "train")[1]
