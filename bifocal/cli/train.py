"""`bifocal train`: a recipe, a run, a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bifocal.cli.evaluations import Evaluations
from bifocal.cli.progress import progress_hook
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train import loop
from bifocal.train.config import RunConfig, load_run
from bifocal.train.log import MetricsLog
from bifocal.train.prepare import prepare
from bifocal.world import World, pick_device


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that describes the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings on top of the recipe, as optim.lr=5e-4.", metavar="KEY=VALUE…"),
    ] = None,
) -> None:
    """Train both towers on image-text pairs; run it again to resume."""
    console = Console()
    train_run(load_run(recipe, overrides or []), console)


def train_run(config: RunConfig, console: Console) -> None:
    """Train the run of `config`, with progress on `console` and everything else in its folder."""
    out = Path(config.out)
    evaluations = Evaluations(config)
    world = World(device=pick_device(config.train.device))
    run = prepare(config, world, lambda message: console.print(message, highlight=False))
    out.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(out, run.step, config.train.log_every)
    with progress_hook(console, run.total_steps, run.step) as progress:
        try:
            loop.train(run, out, SoftmaxLoss(), [log, progress], evaluations)
        finally:
            log.close()
    run.model.eval()
    run.pretrained.save(out / "model")
