"""One trial of `bifocal tune`: a recipe with the trial's settings, run as `bifocal train` runs it.

A trial is trained in the process of its worker, so that nothing outlives a worker that is killed,
Ctrl-C finds one training loop, and the pruner hears every evaluation as it is made. What does take
the whole process down leaves the trial to whoever runs the command next.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from bifocal.cli.run_report import write_report
from bifocal.cli.train import Trained, train_run, write_results
from bifocal.errors import BifocalError, CheckpointError, Interrupted
from bifocal.files import write_atomically
from bifocal.settings import Table, merge
from bifocal.train.config import RunConfig
from bifocal.train.folders import one_message
from bifocal.train.hooks import Metrics
from bifocal.train.recipe import resolve_run
from bifocal.train.state import Run
from bifocal.train.step import StepMetrics
from bifocal.tune.recipe import nested, to_toml
from bifocal.world import World, pick_device

if TYPE_CHECKING:
    from bifocal.tune.trial import Claimed

RECIPE = "recipe.toml"


class Pruned(Exception):
    """The trial is not worth going on with."""


class Judge:
    """Tells a trial its evaluations on the way, and stops the run when it is given up."""

    def __init__(self, claimed: Claimed, metric: str) -> None:
        self._claimed, self._metric = claimed, metric

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Leave steps to the loop."""

    def on_evaluation(self, run: Run, metrics: Metrics) -> None:
        """Judge by an evaluation on the way; the last one is the trial's figure."""
        value = metrics.get(self._metric, math.nan)
        on_the_way = run.step < run.total_steps
        if on_the_way and self._claimed.report(run.cursor.position, value):
            raise Pruned

    def on_message(self, message: str) -> None:
        """Leave messages to the screen."""


def recipe_of(table: Mapping[str, Any], settings: Mapping[str, Any], out: Path) -> Table:
    """Return a recipe with settings by dotted key on top, which runs in `out`."""
    return merge(merge(table, nested(settings)), {"out": str(out)})


def run_trial(claimed: Claimed, table: Mapping[str, Any], metric: str, console: Console) -> str:
    """Run a trial to its end and record what came of it; return that in words.

    What is wrong with a trial's settings is its result; what is wrong with the disk is not.

    Raises:
        Interrupted: the user asked to stop; the trial goes on when the command is run again.
        CheckpointError: its run cannot be written or read; likewise.
    """
    recipe = recipe_of(table, claimed.settings, claimed.folder)
    with one_message(f"write {claimed.folder / RECIPE}"):
        write_atomically(claimed.folder / RECIPE, to_toml(recipe).encode())
    try:
        trained = _trained(resolve_run(recipe, f"trial {claimed.number}"), claimed, metric, console)
    except Pruned:
        claimed.prune()
        return "pruned"
    except (Interrupted, CheckpointError):
        raise
    except BifocalError as error:
        claimed.fail(str(error))
        return f"failed: {error}"
    finally:
        # The next trial may need the memory that this one's model held.
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    value = trained.metrics[metric]
    if not math.isfinite(value):
        claimed.fail(f"{metric} is {value}")
        return f"failed: {metric} is {value}"
    claimed.finish(value)
    return f"{metric} {value:.4f}"


def _trained(config: RunConfig, claimed: Claimed, metric: str, console: Console) -> Trained:
    """Train as `bifocal train` does, with a judge among the hooks."""
    world = World(device=pick_device(config.train.device))
    trained = train_run(config, console, world, [Judge(claimed, metric)])
    write_results(trained, {})
    with one_message(f"write the report to {trained.out}"):
        write_report(trained.run, trained.evaluations, trained.metrics, trained.out)
    return trained
