"""Training runs that an experiment compares: made once, and read ever after.

A run is `bifocal train` in a process of its own, into a folder of its own; a run whose results are
there is not trained again, and one that was cut off goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocal.train.log import read_metrics


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run left behind: its figures, and the rows of its log."""

    folder: Path
    results: dict[str, Any]
    rows: list[dict[str, Any]]

    def curve(self, key: str, kind: str = "evaluation") -> tuple[list[float], list[float]]:
        """Return steps and values of one logged quantity."""
        rows = [row for row in self.rows if row["kind"] == kind and key in row]
        return [row["step"] for row in rows], [row[key] for row in rows]

    @property
    def seconds(self) -> float:
        """Time of the training steps alone, from the logged rates: evaluations are left out."""
        pairs, rates = self.curve("pairs", "train")[1], self.curve("pairs_per_second", "train")[1]
        steps = zip([0.0, *pairs[:-1]], pairs, rates, strict=True)
        return sum((end - begin) / rate for begin, end, rate in steps)


def train(recipe: str, out: Path, overrides: Sequence[str]) -> Trained:
    """Return the run of a recipe with overrides in `out`, trained if it is not complete.

    Raises:
        subprocess.CalledProcessError: the training failed.
    """
    results = out / "results.json"
    if not results.exists():
        command = [sys.executable, "-m", "bifocal", "train", recipe, f"out={out}", *overrides]
        print("$ bifocal", *command[3:], flush=True)
        subprocess.run(command, check=True)
    return Trained(out, json.loads(results.read_text("utf-8")), read_metrics(out))
