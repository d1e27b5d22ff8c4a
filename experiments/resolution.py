"""Paper section 2.5: a last stretch at a higher resolution ("ViT-L/14@336px").

    python -m experiments resolution

Finished runs go on for about the same extra time in two ways: at their own resolution, and at a
larger one with fewer pairs, each of which costs (larger/smaller)² as much.
"""

from __future__ import annotations

from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_dots
from experiments.projection import RECALLS
from experiments.runs import ClaimSizes, Lab, Trained, by_arm, effort, train

STRETCH = ("train.evaluate_every=0", "optim.lr=3e-4", "optim.warmup_steps=10")


class Sizes(ClaimSizes):
    """The ground has captions and held-out pairs, and pictures larger than it reads them."""

    large: int = 128
    """Side of the pictures in the last stretch; the photographs of Flickr8k have 144 pixels."""
    epochs: float
    """Length of the last stretch at the larger size."""


def arms(bases: list[Trained], sizes: Sizes, lab: Lab) -> dict[str, list[Trained]]:
    """Train both continuations of each base."""
    ground = lab.ground(sizes.ground)
    small, large = ground.config().model.vision.image_size, sizes.large
    found: dict[str, list[Trained]] = {}
    for size, length in ((small, sizes.epochs * (large / small) ** 2), (large, sizes.epochs)):
        stretch = [f"model.image_size={size}", f"train.epochs={length}", *STRETCH]
        for seed, base in enumerate(bases):
            settings = [f"init={base.folder}", f"seed={seed + 100}", *ground.overrides, *stretch]
            folder = lab.folder(sizes.ground, ("init", *stretch), seed)
            run = train(ground.recipe, folder, settings, lab.threads)
            found.setdefault(f"then {size} pixels", []).append(run)
    return found


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Compare both continuations with each other."""
    bases = lab.train(sizes.ground, {"base": ()})["base"]
    stretched = arms(bases, sizes, lab)
    small, large = stretched
    found = {"before": bases, **stretched}
    loss = by_arm(found, "val/loss")
    recall = by_arm(found, *RECALLS, scale=100)
    panels = [
        Panel("Held-out loss", "validation loss, nats", loss),
        Panel("Retrieval, mean of both ways", "recall@10, %", recall),
    ]
    draw_dots(lab.figure("resolution"), panels)
    return Claim(
        name="resolution",
        title="Final epochs at a higher resolution",
        where="section 2.5, tables 1 and 11",
        paper="ViT-L/14 is trained for one more epoch at 336 pixels, as FixRes does; that model is "
        "the best of all: 76.2 % zero-shot on ImageNet, against 75.3 % before. There is no "
        "comparison with an epoch more at 224 pixels.",
        here=f"Models of {bases[0].results['pairs']:,} pairs go on at {small[5:]} "
        f"({stretched[small][0].results['pairs']:,} pairs) or {large[5:]} "
        f"({stretched[large][0].results['pairs']:,} pairs), about the same computation.",
        measures=(
            Measure("validation loss, nats", loss, 3),
            Measure("recall@10, %", recall),
        ),
        comparisons=(
            Comparison(
                f"validation loss, {small} − {large}",
                "higher resolution is better (no figure)",
                "nats",
                paired(loss[small], loss[large]),
            ),
            Comparison(
                f"recall@10, {large} − {small}",
                "higher resolution is better (no figure)",
                "points",
                paired(recall[large], recall[small]),
            ),
        ),
        figure="Validation loss and recall before and after the last stretch, at either resolution",
        larger="Photographs that hold more than Flickr8k's 144 pixels, and held-out pairs by the "
        "ten thousand: of 1,000, a point of recall is ten pictures.",
        effort=effort(found),
    )
