"""Paper section 2.3: a random square crop is the only augmentation, since there is data enough.

    python -m experiments augmentation

The paper gives the size of its data as the reason why overfitting is no major concern. So more
augmentation should help where pictures are few and seen often, and lose its use where they are many
and seen a few times. The pictures seen are the same in all runs; how many different ones there are
is not. On square pictures the paper's crop is the whole picture: "crop alone" changes nothing.
"""

from __future__ import annotations

from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_curves
from experiments.runs import ClaimSizes, Lab, by_arm, effort

KINDS = {
    "crop alone": ("augment.min_area=1.0", "augment.horizontal_flip=false"),
    "more augmentation": (),
}
"""What is done to a picture: the paper's, and the ground's own recipe."""


class Sizes(ClaimSizes):
    """The ground augments; its only labelled set is what is compared."""

    sizes: dict[str, str]
    """Training pictures by how many there are."""


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train with and without augmentation on every size."""
    ground = lab.ground(sizes.ground)
    own = ground.config()
    (name,) = own.evaluate.zero_shot
    arms = {
        f"{kind}, {int(size):,} pictures": (
            *((f"data.train={path}",) if path != own.data.train else ()),
            *settings,
        )
        for size, path in sizes.sizes.items()
        for kind, settings in KINDS.items()
    }
    found = lab.train(sizes.ground, arms)
    top1 = by_arm(found, f"{name}/top1", scale=100)
    loss = {arm: tuple(_final_loss(run.rows) for run in runs) for arm, runs in found.items()}
    counts = [int(size) for size in sizes.sizes]
    seeds = range(len(next(iter(found.values()))))
    curves = {
        kind: [
            (counts, [top1[f"{kind}, {count:,} pictures"][seed] for count in counts])
            for seed in seeds
        ]
        for kind in KINDS
    }
    pictures = next(iter(found.values()))[0].results["pairs"]
    ticks = {count: f"{count:,}\nseen {pictures / count:.3g} times" for count in counts}
    panel = Panel(f"{pictures:,} pictures seen", "zero-shot top-1, %", curves=curves, ticks=ticks)
    draw_curves(lab.figure("augmentation"), [panel], "different training pictures", log=True)
    return Claim(
        name="augmentation",
        title="With data enough, a random crop is augmentation enough",
        where="section 2.3",
        paper="A random square crop of the resized picture is the only augmentation; with 400 "
        "million pairs overfitting was no major concern. No figures.",
        here=f"{pictures:,} pictures seen a training, of {min(counts):,} to {max(counts):,} "
        "different ones, as they are (their crop is the whole square) or with random crops of half "
        "the area and more, half of them mirrored.",
        measures=(
            Measure("zero-shot top-1, %", top1),
            Measure("training loss at the end, nats", loss, 2),
        ),
        comparisons=_comparisons(top1, min(counts), max(counts)),
        figure="Zero-shot accuracy by the number of different training pictures, with and without "
        "augmentation",
        larger="Pairs by the million, as in CC3M, of which each is seen a few times whatever is "
        "done to it.",
        effort=effort(found),
    )


def _comparisons(top1: dict[str, tuple[float, ...]], few: int, many: int) -> tuple[Comparison, ...]:
    plain, more = KINDS
    gains = [
        paired(top1[f"{more}, {count:,} pictures"], top1[f"{plain}, {count:,} pictures"])
        for count in (few, many)
    ]
    return (
        Comparison(
            f"what more augmentation gains with {few:,} pictures − what it gains with {many:,}",
            "it matters less with more data (no figure)",
            "points",
            paired(gains[0], gains[1]),
        ),
        Comparison(
            f"crop alone − more augmentation, {many:,} pictures",
            "no worse (bound here: −1 point)",
            "points",
            tuple(-gain for gain in gains[1]),
            "above",
            -1.0,
        ),
    )


def _final_loss(rows: list[dict[str, float]]) -> float:
    """Return the mean of the last fifth of the logged training losses."""
    losses = [row["loss"] for row in rows if "loss" in row]
    last = losses[-max(1, len(losses) // 5) :]
    return sum(last) / len(last)
