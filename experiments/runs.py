"""Training runs that experiments compare: made once, and read ever after.

A run is `bifocal train` in a process of its own, into a folder of its own; a run whose results are
there is not trained again, and one that was cut off goes on where it was. The folder's name holds a
hash of everything that was set, so that claims share the runs that they have in common, and a claim
of another size finds none of this one's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from bifocal.errors import ConfigError, TrainingError, did_you_mean
from bifocal.settings import Settings, read_toml
from bifocal.train.config import RunConfig
from bifocal.train.log import read_metrics
from bifocal.train.recipe import load_run

Arms = Mapping[str, Sequence[str]]
"""What is compared: overrides by name."""


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

    def metric(self, key: str) -> float:
        """Return a figure of the evaluation at the end."""
        return self.results["metrics"][key]

    def metrics(self, *keys: str) -> float:
        """Return the mean of several figures of the evaluation at the end."""
        return sum(map(self.metric, keys)) / len(keys)

    @property
    def seconds(self) -> float:
        """Time of the training steps alone, from the logged rates: evaluations are left out."""
        pairs, rates = self.curve("pairs", "train")[1], self.curve("pairs_per_second", "train")[1]
        steps = zip([0.0, *pairs[:-1]], pairs, rates, strict=True)
        return sum((end - begin) / rate for begin, end, rate in steps)


class Ground(Settings):
    """What models are trained on, and how often: a recipe with overrides, seeds 0, 1 …"""

    recipe: str
    seeds: PositiveInt = 3
    overrides: tuple[str, ...] = ()

    def config(self, overrides: Sequence[str] = ()) -> RunConfig:
        """Return the resolved settings of its runs, with an arm's overrides."""
        return load_run(Path(self.recipe), [*self.overrides, *overrides])


class ClaimSizes(Settings):
    """What every claim's table of a file of sizes holds; a claim adds its own keys."""

    ground: str
    note: str = ""
    """How the result is read at this size: why it came out so. It says nothing that the figures
    decide."""


@dataclass(frozen=True, slots=True)
class Lab:
    """Where runs and figures lie, what models are trained on, and how many at once."""

    out: Path
    grounds: Mapping[str, Ground]
    images: Path = Path("docs/images")
    jobs: int = 1

    def figure(self, name: str) -> Path:
        """Return where a claim's figure lies."""
        return self.images / f"claims_{name}.png"

    def ground(self, name: str) -> Ground:
        """Return a ground.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.grounds:
            hint = did_you_mean(name, self.grounds) or f": known are {', '.join(self.grounds)}"
            raise ConfigError(f"no ground is named '{name}'{hint}")
        return self.grounds[name]

    def folder(self, name: str, overrides: Sequence[str], seed: int) -> Path:
        """Return where the run of a ground, with an arm's overrides, lies."""
        ground = self.ground(name)
        asked = [read_toml(Path(ground.recipe)), sorted(ground.overrides), sorted(overrides)]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
        words = re.sub(r"[^\w.=,-]+", "", ",".join(sorted(overrides)))[:60] or "base"
        return self.out / name / f"{words}-{digest}-{seed}"

    def train(self, name: str, arms: Arms, seeds: int = 0) -> dict[str, list[Trained]]:
        """Return each arm's runs by seed, trained where they are not complete.

        Args:
            name: of the ground.
            arms: overrides by arm, on top of the ground's.
            seeds: how many; 0 for the ground's number.

        Raises:
            ConfigError: there is no such ground.
            TrainingError: a training failed.
        """
        ground = self.ground(name)
        ordered = list(product(range(seeds or ground.seeds), arms.items()))

        def one(job: tuple[int, tuple[str, Sequence[str]]]) -> Trained:
            seed, (_, overrides) = job
            settings = [f"seed={seed}", *ground.overrides, *overrides]
            return train(ground.recipe, self.folder(name, overrides, seed), settings, self.threads)

        with ThreadPoolExecutor(self.jobs) as pool:
            done = list(pool.map(one, ordered))
        found: dict[str, list[Trained]] = {arm: [] for arm in arms}
        for (_, (arm, _)), run in zip(ordered, done, strict=True):
            found[arm].append(run)
        return found

    @property
    def threads(self) -> int:
        """Threads of one run; 0, as many as it wants, where there is one at a time."""
        return max(1, (os.cpu_count() or 1) // self.jobs) if self.jobs > 1 else 0


def by_arm(
    found: Mapping[str, Sequence[Trained]], *keys: str, scale: float = 1.0
) -> dict[str, tuple[float, ...]]:
    """Return a figure of the evaluation at the end by arm and seed, or the mean of several.

    Args:
        found: runs by arm.
        keys: of the figures.
        scale: that they are multiplied by, as 100 for per cent.
    """
    return {arm: tuple(scale * run.metrics(*keys) for run in runs) for arm, runs in found.items()}


def effort(found: Mapping[str, Sequence[Trained]]) -> str:
    """Return how many runs there are and what they saw, in words."""
    runs = {run.folder: run.results["pairs"] for some in found.values() for run in some}
    return f"{len(runs)} trainings, {sum(runs.values()):,} pictures seen in all"


def train(recipe: str, out: Path, overrides: Sequence[str], threads: int = 0) -> Trained:
    """Return the run of a recipe with overrides in `out`, trained if it is not complete.

    Args:
        recipe: path of a TOML file.
        out: the run's folder.
        overrides: as of `bifocal train`.
        threads: of the run, whose messages then go into a file beside its folder, since others may
            run at the same time; 0 leaves both as they are.

    Raises:
        TrainingError: the training failed.
    """
    results = out / "results.json"
    if not results.exists():
        command = [sys.executable, "-m", "bifocal", "train", recipe, f"out={out}", *overrides]
        print("$ bifocal", *command[3:], flush=True)
        log = Path(f"{out}.log")
        try:
            if threads:
                log.parent.mkdir(parents=True, exist_ok=True)
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                with log.open("wb") as file:
                    subprocess.run(command, check=True, env=environment, stdout=file, stderr=file)
            else:
                subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            where = f"see {log}" if threads else "its message stands above"
            raise TrainingError(
                f"the training in {out} ended with status {error.returncode}: {where}"
            ) from None
    return Trained(out, json.loads(results.read_text("utf-8")), read_metrics(out))
