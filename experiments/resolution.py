"""Paper section 2.5: a last stretch at a higher resolution ("ViT-L/14@336px").

    python -m experiments.resolution

Runs of Flickr8k at 96 pixels go on for the same extra time in two ways: at 96 pixels, and at 128
pixels (of the photographs' 144) with fewer pairs, each of which costs (128/96)² = 1.8 times as
much.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.runs import Trained, train

RECIPE = "recipes/flickr8k.toml"
SMALL, LARGE = 96, 128
KEYS = ("val/loss", "val/image_to_text_recall@10", "val/text_to_image_recall@10")


def arms(bases: list[Path], out: Path, epochs: float) -> dict[str, list[Trained]]:
    """Train both continuations of each base; `epochs` counts those at the larger size."""
    found: dict[str, list[Trained]] = {f"{SMALL} pixels": [], f"{LARGE} pixels": []}
    for seed, base in enumerate(bases):
        for size, length in ((SMALL, epochs * (LARGE / SMALL) ** 2), (LARGE, epochs)):
            overrides = [
                f"init={base}",
                f"seed={seed + 100}",
                f"model.image_size={size}",
                f"train.epochs={length}",
                "train.evaluate_every=0",
                "optim.lr=3e-4",
                "optim.warmup_steps=10",
            ]
            found[f"{size} pixels"].append(train(RECIPE, out / f"{size}-{seed}", overrides))
    return found


def main() -> None:
    """Train, and print what each continuation gained over its base."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments/resolution"))
    parser.add_argument(
        "--bases",
        type=Path,
        default=Path("runs/experiments/half_precision"),
        help="Folder of float32 runs, as experiments.half_precision leaves them.",
    )
    parser.add_argument("--epochs", type=float, default=1.5)
    options = parser.parse_args()
    bases = sorted(options.bases.glob("float32-*"))
    started = [train(RECIPE, base, []) for base in bases]
    for name, runs in {"base": started, **arms(bases, options.out, options.epochs)}.items():
        for seed, run in enumerate(runs):
            figures = "  ".join(f"{key} {run.results['metrics'][key]:.4f}" for key in KEYS)
            print(f"{name:10} seed {seed}: {figures}  {run.seconds:.0f} s of training")


if __name__ == "__main__":
    main()
