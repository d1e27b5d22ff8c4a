"""Paper section 2.3: a linear projection into the shared space does as well as a non-linear one.

    python -m experiments projection

The same towers, pairs and seeds, with `model.projection` linear or with a hidden layer. The bounds
of "no difference" were set before any run: one point of recall, 0.03 of validation loss.
"""

from __future__ import annotations

from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_dots
from experiments.runs import ClaimSizes, Lab, by_arm, effort

RECALLS = ("val/image_to_text_recall@10", "val/text_to_image_recall@10")
ARMS = {"linear": (), "non-linear": ("model.projection=mlp",)}


class Sizes(ClaimSizes):
    """The ground has captions and held-out pairs."""


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train both arms and compare loss and recall on held-out pairs."""
    found = lab.train(sizes.ground, ARMS)
    loss = by_arm(found, "val/loss")
    recall = by_arm(found, *RECALLS, scale=100)
    draw_dots(
        lab.figure("projection"),
        [
            Panel("Held-out loss", "validation loss, nats", loss),
            Panel("Retrieval, mean of both ways", "recall@10, %", recall),
        ],
    )
    first = found["linear"][0].results
    return Claim(
        name="projection",
        title="A linear projection is enough",
        where="section 2.3",
        paper="Towers are projected linearly, without the hidden layer that self-supervised "
        "methods put there; no difference in training efficiency was noticed. No figures.",
        here=f"Two trainings a seed on {first['pairs']:,} pairs, alike but for `model.projection`.",
        measures=(
            Measure("validation loss, nats", loss, 3),
            Measure("recall@10, %", recall),
        ),
        comparisons=(
            Comparison(
                "validation loss, non-linear − linear",
                "no difference (bound here: ±0.03)",
                "nats",
                paired(loss["non-linear"], loss["linear"]),
                "same",
                0.03,
            ),
            Comparison(
                "recall@10, non-linear − linear",
                "no difference (bound here: ±1 point)",
                "points",
                paired(recall["non-linear"], recall["linear"]),
                "same",
                1.0,
            ),
        ),
        figure="Validation loss and recall of linear and non-linear projections, by seed",
        larger="More seeds, or longer runs: two epochs of 6,000 photographs are the steep part of "
        "the curve, where seeds are far apart.",
        effort=effort(found),
    )
