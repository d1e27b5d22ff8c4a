"""Paper section 2.5: "a very large minibatch", at the same number of pictures seen.

    python -m experiments batch_size

Larger batches hold more wrong partners for every pair, and make fewer steps of the same pictures.
The learning rate follows the square root of the batch (Adam's rule), the warm-up the pictures.
Losses of different batches are not alike, so recall alone is compared.
"""

from __future__ import annotations

import math

from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_curves
from experiments.runs import ClaimSizes, Ground, Lab, by_arm, effort

WAYS = {
    "image to text": "val/image_to_text_recall@10",
    "text to image": "val/text_to_image_recall@10",
}


class Sizes(ClaimSizes):
    """The ground has captions and held-out pairs."""

    batches: tuple[int, ...]


def arms(ground: Ground, batches: tuple[int, ...]) -> dict[str, tuple[str, ...]]:
    """Return the settings by batch size; the ground's own batch needs none."""
    own = ground.config()
    found: dict[str, tuple[str, ...]] = {}
    for batch in batches:
        factor = batch / own.data.batch_size
        settings = [
            f"data.batch_size={batch}",
            f"optim.warmup_steps={round(own.optim.warmup_steps / factor)}",
            f"optim.lr={own.optim.lr * math.sqrt(factor):g}",
        ]
        if own.train.steps:
            settings.append(f"train.steps={round(own.train.steps / factor)}")
        found[f"batch {batch}"] = tuple(settings) if factor != 1 else ()
    return found


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Train with every batch size and compare the largest with the smallest."""
    batches = tuple(sorted(sizes.batches))
    found = lab.train(sizes.ground, arms(lab.ground(sizes.ground), batches))
    recall = {way: by_arm(found, key, scale=100) for way, key in WAYS.items()}
    seeds = range(len(found[f"batch {batches[0]}"]))
    curves = {
        way: [(batches, [values[f"batch {batch}"][seed] for batch in batches]) for seed in seeds]
        for way, values in recall.items()
    }
    ticks = {batch: str(batch) for batch in batches}
    panel = Panel(
        "Retrieval after the same number of pictures", "recall@10, %", curves=curves, ticks=ticks
    )
    draw_curves(lab.figure("batch_size"), [panel], "pairs a batch", log=True)
    least, most = (f"batch {batch}" for batch in (batches[0], batches[-1]))
    pictures = found[least][0].results["pairs"]
    return Claim(
        name="batch_size",
        title="Large batches",
        where="section 2.5, table 18",
        paper="Every model is trained with batches of 32,768 pairs. The paper gives no comparison "
        "with smaller ones; that they would do worse is what we read into it.",
        here=f"{pictures:,} pairs a training in batches of {', '.join(map(str, batches))}; the "
        "learning rate follows the square root of the batch.",
        measures=tuple(Measure(f"recall@10 {way}, %", values) for way, values in recall.items()),
        comparisons=tuple(
            Comparison(
                f"recall@10 {way}, {most} − {least}",
                "larger is better (no figure)",
                "points",
                paired(values[most], values[least]),
            )
            for way, values in recall.items()
        ),
        figure="Recall@10 both ways against the batch size, at the same number of pictures",
        larger="More pictures before larger batches: the largest made "
        f"{found[most][0].results['steps']} steps here. `recipes/claims/one_gpu.toml` has "
        "them make thousands.",
        effort=effort(found),
    )
