"""Paper section 2.4: performance is less sensitive to the text tower's capacity.

    python -m experiments towers

One tower at a time is made narrower by the same factor, which takes about the same share of its
computation (its square) from either.
"""

from __future__ import annotations

from bifocal.model import zoo
from bifocal.model.config import HEAD_WIDTH, CLIPConfig, ModifiedResNetConfig
from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_dots
from experiments.projection import RECALLS
from experiments.runs import ClaimSizes, Lab, by_arm, effort

WHOLE = "both as they are"
Values = tuple[float, ...]


class Sizes(ClaimSizes):
    """The ground has captions and held-out pairs."""

    factors: tuple[float, ...]
    """Of the widths."""


def arms(model: CLIPConfig, factors: tuple[float, ...]) -> dict[str, tuple[str, ...]]:
    """Return the settings of the whole model, and of each tower by each factor."""
    found: dict[str, tuple[str, ...]] = {WHOLE: ()}
    channels = 32 if isinstance(model.vision, ModifiedResNetConfig) else 1
    towers = {"text": (model.text.width, 1), "image": (model.vision.width, channels)}
    for factor in factors:
        for tower, (width, per_width) in towers.items():
            narrow = round(width * factor)
            key = "text" if tower == "text" else "vision"
            heads = max(1, narrow * per_width // HEAD_WIDTH)
            found[named(tower, factor)] = (
                f"model.{key}.width={narrow}",
                f"model.{key}.heads={heads}",
            )
    return found


def named(tower: str, factor: float) -> str:
    """Return what the page calls an arm."""
    return f"{tower} tower, width × {factor:g}"


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train all arms, and compare what a narrower tower of either kind costs."""
    ground = lab.ground(sizes.ground)
    settings = arms(ground.config().model, sizes.factors)
    found = lab.train(sizes.ground, settings)
    loss = by_arm(found, "val/loss")
    recall = by_arm(found, *RECALLS, scale=100)
    work = {
        arm: (1000 * zoo.measure(ground.config(some).model).gflops,)
        for arm, some in settings.items()
    }
    panels = [
        Panel("Held-out loss", "validation loss, nats", loss),
        Panel("Retrieval, mean of both ways", "recall@10, %", recall),
    ]
    draw_dots(lab.figure("towers"), panels)
    return Claim(
        name="towers",
        title="The text tower may stay small",
        where="section 2.4",
        paper="Larger models get a wider text tower and no deeper one, because performance was "
        "found to be less sensitive to its capacity. No figures.",
        here=f"{found[WHOLE][0].results['pairs']:,} pairs a training; one tower at a time "
        "gets another width.",
        measures=(
            Measure("MFLOP a pair, forward", work),
            Measure("validation loss, nats", loss, 3),
            Measure("recall@10, %", recall),
        ),
        comparisons=tuple(_comparisons(sizes.factors, loss, recall)),
        figure="Validation loss and recall of a model with either tower narrowed, by seed",
        larger="`recipes/claims/one_gpu.toml`, where towers are narrowed and widened and every one "
        "sees enough pictures for its capacity to count.",
        effort=effort(found),
    )


def _comparisons(
    factors: tuple[float, ...], loss: dict[str, Values], recall: dict[str, Values]
) -> list[Comparison]:
    comparisons: list[Comparison] = []
    for factor in factors:
        text, image = named("text", factor), named("image", factor)
        better = 1 if factor < 1 else -1  # narrower towers cost, wider ones gain
        comparisons += [
            Comparison(
                f"validation loss, {image} − {text}",
                "the image tower matters more (no figure)",
                "nats",
                paired(loss[image], loss[text], better),
            ),
            Comparison(
                f"recall@10, {text} − {image}",
                "the image tower matters more (no figure)",
                "points",
                paired(recall[text], recall[image], better),
            ),
        ]
    return comparisons
