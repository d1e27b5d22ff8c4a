"""`bifocal train`: a recipe, a run, a report."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from bifocal.cli.evaluations import Evaluations
from bifocal.cli.progress import progress_hook
from bifocal.cli.run_report import environment, write_report
from bifocal.errors import CheckpointError, TrainingError
from bifocal.files import json_of, write_atomically
from bifocal.precision import flushed_denormals, same_order
from bifocal.train import loop
from bifocal.train.config import RunConfig
from bifocal.train.folders import one_message, whole_folder
from bifocal.train.hooks import Hook, Metrics
from bifocal.train.log import MetricsLog
from bifocal.train.objective import loss_of
from bifocal.train.prepare import prepare
from bifocal.train.rejected import RejectedLog
from bifocal.train.stages import load_stages
from bifocal.train.state import Run
from bifocal.world import ALONE, World, join_world

RESULTS = "results.json"
SHOW_CURSOR = b"\x1b[?25h"
"""What a terminal is told whose cursor a progress bar has hidden."""


@dataclass(frozen=True)
class Trained:
    """A finished run and what was measured of it."""

    run: Run
    out: Path
    evaluations: Evaluations
    metrics: Metrics
    seconds: float


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that describes the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings on top of the recipe: optim.lr=5e-4.", metavar="KEY=VALUE…"),
    ] = None,
) -> None:
    """Train both towers on image-text pairs; run it again to resume."""
    stages = load_stages(recipe, overrides or [])
    with join_world(stages[0].config().train.device) as world:
        console = Console(quiet=not world.leads)
        for stage in stages:
            if stage.stages > 1:
                console.print(f"stage {stage.number} of {stage.stages}", highlight=False)
            trained = train_run(stage.config(), console, world)
            if world.leads:
                finish(trained, console)
            world.wait()


def finish(trained: Trained, console: Console) -> None:
    """Write the results and the report of a run, and say where they are."""
    write_results(trained, {})
    with one_message(f"write the report to {trained.out}"):
        report = write_report(trained.run, trained.evaluations, trained.metrics, trained.out)
    console.print(f"model {trained.out / 'model'}  report {report}", highlight=False)


def train_run(
    config: RunConfig, console: Console, world: World = ALONE, extra: Sequence[Hook] = ()
) -> Trained:
    """Train the run of `config`, with progress on `console` and everything else in its folder.

    A run that is complete is evaluated again and not trained.

    Args:
        config: the resolved settings.
        console: shows progress and messages.
        world: the processes that share the run.
        extra: hooks beside those that keep the run's records.

    Raises:
        BifocalError: the run cannot begin or go on, or the user asked to stop.
    """
    try:
        flushed = nullcontext() if keeps_float16(config) else flushed_denormals()
        with flushed, same_order(config.train.deterministic), leaving_at_once():
            return _train_run(config, console, world, extra)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingError(
            f"memory ran out ({str(error).splitlines()[0] if str(error) else 'on the host'}); "
            "checkpoints are intact. Lower data.threads or train.chunk_size and run the same "
            "command again to go on from there"
        ) from None


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process where it stands, unless the run takes it as a request.

    As an exception it may be lost in a callback of a library; and what a run has saved is whole at
    any moment. Nothing changes outside the main thread, or where Ctrl-C has another meaning.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: object) -> None:
    if os.isatty(1):
        os.write(1, SHOW_CURSOR)
    os.write(2, b"stopped\n")
    os._exit(128 + number)


def _train_run(config: RunConfig, console: Console, world: World, extra: Sequence[Hook]) -> Trained:
    out = _folder(config)
    loss_fn = loss_of(config)
    evaluations = Evaluations(config)
    run = prepare(config, world, lambda message: console.print(message, highlight=False))
    began = time.perf_counter()
    with hooks_of(run, out, console) as hooks:
        loop.train(run, out, loss_fn, [*hooks, *extra], evaluations)
    seconds = time.perf_counter() - began
    run = run.for_evaluation()
    if world.leads:
        with one_message(f"write {out / 'model'}"), whole_folder(out / "model") as folder:
            run.pretrained.save(folder)
    return Trained(run, out, evaluations, evaluations.metrics, seconds)


@contextmanager
def hooks_of(run: Run, out: Path, console: Console) -> Iterator[list[Hook]]:
    """Open the run's records and its progress bar; only the leading process keeps them."""
    rejected = RejectedLog(out, run)
    if not run.world.leads:
        yield [rejected]
        return
    with (
        closing(MetricsLog(run, out)) as log,
        progress_hook(console, run.total_steps, run.step) as progress,
    ):
        yield [rejected, log, progress]


def keeps_float16(config: RunConfig) -> bool:
    """Return whether a run stores anything in float16."""
    optim = config.optim
    return "float16" in (optim.statistics, optim.image_weights, optim.text_weights)


def write_results(trained: Trained, headline: Mapping[str, float]) -> Path:
    """Write `results.json`: headline figures first, then all, with what they were measured on."""
    run = trained.run
    table = {
        **headline,
        "training_seconds": round(trained.seconds, 1),
        "pairs": run.cursor.position,
        "steps": run.step,
        "seed": run.config.seed,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "skipped": run.skips.counts.total(),
        "truncated": run.skips.truncated,
        "metrics": dict(trained.metrics),
        "environment": environment(run),
    }
    path = trained.out / RESULTS
    with one_message(f"write {path}"):
        write_atomically(path, (json_of(table, indent=2) + "\n").encode())
    return path


def _folder(config: RunConfig) -> Path:
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot make the folder {out}: {error.strerror}") from None
    return out
