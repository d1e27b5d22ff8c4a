"""Run the paper's claims, or some of them, and write their parts of docs/claims.md.

    python -m experiments
    python -m experiments batch_size towers --sizes recipes/claims/one_gpu.toml --jobs 4

Runs that are complete are read, not trained again; a claim that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bifocal.errors import BifocalError, ConfigError, did_you_mean
from bifocal.files import write_atomically
from bifocal.settings import build, read_toml
from experiments import (
    augmentation,
    batch_size,
    few_shot,
    objectives,
    projection,
    prompts,
    resolution,
    temperature,
    towers,
)
from experiments.claim import Claim
from experiments.page import write_page
from experiments.runs import ClaimSizes, Ground, Lab

CLAIMS: dict[str, tuple[type[ClaimSizes], Callable[[Any, Lab], Claim]]] = {
    "augmentation": (augmentation.Sizes, augmentation.measure),
    "temperature": (temperature.Sizes, temperature.measure),
    "projection": (projection.Sizes, projection.measure),
    "batch_size": (batch_size.Sizes, batch_size.measure),
    "towers": (towers.Sizes, towers.measure),
    "objectives": (objectives.Sizes, objectives.measure),
    "prompts": (prompts.Sizes, prompts.measure),
    "few_shot": (few_shot.Sizes, few_shot.measure),
    "resolution": (resolution.Sizes, resolution.measure),
}
"""What a claim's sizes are and who measures it; the cheapest first."""

PAGE_ORDER = (
    "objectives",
    "projection",
    "augmentation",
    "temperature",
    "batch_size",
    "towers",
    "resolution",
    "prompts",
    "few_shot",
)
"""As the paper tells them."""


def main() -> None:
    """Run what is asked for."""
    options = _options()
    try:
        run(options)
    except BifocalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: what is trained is kept; the same command goes on")


def run(options: argparse.Namespace) -> None:
    """Measure the claims one by one; each leaves its record, its figure and its section.

    Raises:
        ConfigError: the file of sizes, or the name of a claim, is wrong.
    """
    if options.jobs < 1:
        raise ConfigError(f"--jobs is {options.jobs}: train at least one run at once")
    tables = read_toml(options.sizes)
    unknown = set(tables) - {"grounds", *CLAIMS} | set(options.claims) - set(CLAIMS)
    for name in sorted(unknown):
        hint = did_you_mean(name, CLAIMS) or f": known are {', '.join(CLAIMS)}"
        raise ConfigError(f"no claim is named '{name}'{hint}")
    grounds = {
        name: build(Ground, table, f"{options.sizes}, grounds.{name}")
        for name, table in tables.get("grounds", {}).items()
    }
    lab = Lab(options.out, grounds, options.images, options.jobs)
    for name, (sizes, measure) in CLAIMS.items():
        if name not in (options.claims or tables):
            continue
        asked = build(sizes, tables.get(name, {}), f"{options.sizes}, {name}")
        claim = measure(asked, lab)
        command = f"python -m experiments {name} --sizes {options.sizes}"
        claim = replace(claim, note=asked.note, command=command)
        record = options.out / name / "claim.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, (json.dumps(claim.to_table(), indent=1) + "\n").encode())
        write_page(options.page, [claim], PAGE_ORDER)
        print(f"{claim.title}: {claim.verdict}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("claims", nargs="*", metavar="claim", help=f"{', '.join(CLAIMS)}")
    paths = {
        "--sizes": ("recipes/claims/two_cores.toml", "What is trained, and how long."),
        "--out": ("runs/experiments", "Folder of runs and records."),
        "--page": ("docs/claims.md", "Page that is written."),
        "--images": ("docs/images", "Folder of its figures."),
    }
    for name, (default, told) in paths.items():
        parser.add_argument(name, type=Path, default=Path(default), help=told)
    parser.add_argument("--jobs", type=int, default=1, help="Runs that are trained at once.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
