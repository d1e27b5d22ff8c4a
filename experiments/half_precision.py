"""Paper section 2.5: half-precision Adam statistics and text weights cost no accuracy.

    python -m experiments.half_precision

Three float32 runs of Flickr8k that differ in nothing but the seed give a band; runs that compute in
bfloat16, keep Adam's averages in float16 and the text tower's matrices in bfloat16 (8 to 12 bytes a
parameter instead of 16) must lie inside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from experiments.figures import draw_bands
from experiments.runs import Trained, train

RECIPE = "recipes/flickr8k.toml"
HALF = ("train.precision=bfloat16", "optim.statistics=float16", "optim.text_weights=bfloat16")
KEYS = ("val/loss", "val/image_to_text_recall@10", "val/text_to_image_recall@10")


def arms(out: Path, seeds: int, epochs: int) -> dict[str, list[Trained]]:
    """Train both arms, seed by seed."""
    length = (f"train.epochs={epochs}", "train.evaluate_every=47", "train.checkpoint_every=100")
    found: dict[str, list[Trained]] = {"float32": [], "half": []}
    for seed in range(seeds):
        for name, options in (("float32", ()), ("half", HALF)):
            run = train(RECIPE, out / f"{name}-{seed}", [f"seed={seed}", *length, *options])
            found[name].append(run)
    return found


def prediction_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where one more run of the same kind lies with 95 % probability, point by point.

    Args:
        values: "runs points" of independent runs; Student's t with the spread over the runs.
    """
    from scipy.stats import t

    runs = len(values)
    reach = t.ppf(0.975, runs - 1) * values.std(axis=0, ddof=1) * np.sqrt(1 + 1 / runs)
    return values.mean(axis=0) - reach, values.mean(axis=0) + reach


def main() -> None:
    """Train, print how far the half-precision runs are from the band, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments/half_precision"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/half_precision.png"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    found = arms(options.out, options.seeds, options.epochs)
    for key in KEYS:
        print(key)
        curves = {name: [run.curve(key) for run in runs] for name, runs in found.items()}
        full = np.array([values for _, values in curves["float32"]])
        low, high = prediction_band(full)
        for name, lines in curves.items():
            for seed, (_, values) in enumerate(lines):
                inside = (low <= np.array(values)) & (np.array(values) <= high)
                shown = " ".join(f"{value:.4f}" for value in values)
                print(f"  {name:8} seed {seed}: {shown}   inside {inside.sum()} of {len(values)}")
        print("  band     " + " ".join(f"{a:.4f}–{b:.4f}" for a, b in zip(low, high, strict=True)))
    lines = {name: [run.curve(KEYS[0]) for run in runs] for name, runs in found.items()}
    draw_bands(options.figure, lines, "step", "validation loss")


if __name__ == "__main__":
    main()
