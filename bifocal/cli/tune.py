"""`bifocal tune`: search hyperparameters, each trial an ordinary run; carry the best to a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.evaluations import Evaluations
from bifocal.cli.tune_files import write_best, write_scaled
from bifocal.cli.tune_trial import recipe_of, run_trial
from bifocal.errors import ConfigError, did_you_mean
from bifocal.model import zoo
from bifocal.settings import merge, parse_override, read_toml
from bifocal.train.best import figures
from bifocal.train.folders import one_message
from bifocal.train.prepare import FREE_TO_CHANGE, open_training
from bifocal.train.recipe import resolve_run
from bifocal.train.state import steps_of
from bifocal.tune.recipe import flat
from bifocal.tune.search import TRIALS, Pruner, Sampler, Search, probes, rows
from bifocal.tune.space import read_space

if TYPE_CHECKING:
    from bifocal.tune.study import Tuning

METRIC = "val/image_to_text_recall@10"
YARDSTICKS = ("data.val", "evaluate")
"""Settings that say what is measured: trials that differ in them cannot be compared."""
LOSS_YARDSTICKS = ("data.batch_size", "loss")
"""The same for the validation loss, which is the training loss of held-out batches."""
SHOWN = 10
"""Trials in the terminal's table; the page has all."""


def tune(
    recipe: Annotated[Path, typer.Argument(help="TOML file of the run that is tuned.")],
    space: Annotated[Path, typer.Argument(help="TOML file of what may be tried.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings on top of the recipe.", metavar="KEY=VALUE…"),
    ] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option(help="How trials are chosen: by default tpe, or manual if all are given."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="In all workers and restarts: by default 20, or the whole list."),
    ] = None,
    metric: Annotated[str, typer.Option(help="Figure of the evaluations to be best.")] = METRIC,
    pruner: Annotated[
        Pruner, typer.Option(help="Give up trials by their evaluations on the way.")
    ] = "none",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; by default runs/RECIPE-SPACE.")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="Database that machines share, as postgresql://…; else in OUT.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    scale_to: Annotated[
        str, typer.Option(help="Also write the best trial's recipe for this larger model.")
    ] = "",
) -> None:
    """Search hyperparameters; run it again to resume, twice at once to share the work."""
    _alone()
    if scale_to:
        zoo.config(scale_to)  # names the nearest
    table = read_toml(recipe)
    for override in overrides or []:
        table = merge(table, parse_override(override))
    found = read_space(space)
    chosen: Sampler = sampler or ("tpe" if found.dimensions else "manual")
    listed = rows(found, chosen)
    folder = out or Path("runs") / f"{recipe.stem}-{space.stem}"
    search = Search(
        space=found,
        sampler=chosen,
        trials=trials or TRIALS if listed is None else min(trials or len(listed), len(listed)),
        metric=metric,
        higher=True,
        pruner=pruner,
        seed=seed,
    )
    search = _checked(search, table, recipe)
    name = f"{recipe.stem}-{space.stem}"
    tuning = _tuning(search, folder, storage, name, _identity(table))
    console = Console()
    try:
        with closing(tuning.claims()) as claims:
            for claimed in claims:
                shown = f"trial {claimed.number} of {search.trials}: {_shown(claimed.settings)}"
                console.print(shown, highlight=False)
                said = run_trial(claimed, table, metric, console)
                console.print(f"trial {claimed.number}: {said}", highlight=False)
                write_best(tuning, table)
    finally:
        # What is known is shown even if the search was stopped.
        _finish(tuning, table, console)
    if scale_to:
        console.print(str(write_scaled(tuning, table, scale_to)), markup=False, soft_wrap=True)


def _alone() -> None:
    """Raise ConfigError where torchrun has started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a trial runs on one device: start `bifocal tune` once for each, as "
            "CUDA_VISIBLE_DEVICES=0 bifocal tune …, and the workers share the study"
        )


def _tuning(
    search: Search, out: Path, storage: str, name: str, identity: Mapping[str, Any]
) -> Tuning:
    try:
        from bifocal.tune.study import Tuning
    except ModuleNotFoundError as error:
        if error.name not in ("optuna", "sqlalchemy"):
            raise
        raise ConfigError("tuning needs Optuna: pip install 'bifocal[tune]'") from None
    return Tuning(search, out, storage, name, identity)


def _checked(search: Search, table: Mapping[str, Any], recipe: Path) -> Search:
    """Return the search with what the recipe says of its metric and its runs' length.

    Raises:
        ConfigError, DataError: a setting of the space is unknown or takes none of its values, the
            data are not there, or no evaluation gives the metric.
    """
    configs = [
        resolve_run(recipe_of(table, probe, Path("trial")), f"{search.space.origin} on {recipe}")
        for probe in probes(search.space, search.sampler)
    ]
    first = configs[0]
    known = figures(first)
    if search.metric not in known:
        given = ", ".join(known) or "none: set data.val or evaluate.zero_shot"
        raise ConfigError(
            f"no evaluation of {recipe} gives the metric '{search.metric}'"
            f"{did_you_mean(search.metric, known)}; there are {given}"
        )
    _check_comparable(search)
    source = open_training(first)
    Evaluations(first)
    resource = (1, 1)
    if search.pruner != "none":
        steps, every = steps_of(first, len(source)), first.train.evaluate_every
        if not 0 < every < steps:
            raise ConfigError(
                f"--pruner {search.pruner} judges by evaluations on the way, and there are none: "
                f"set train.evaluate_every below the {steps} steps of a run"
            )
        resource = (every * first.data.batch_size, steps * first.data.batch_size)
    return replace(search, higher=known[search.metric], resource=resource)


def _check_comparable(search: Search) -> None:
    """Raise ConfigError where the space changes what the metric measures."""
    yardsticks = YARDSTICKS
    if search.metric.endswith("/loss"):
        yardsticks += LOSS_YARDSTICKS
    for key in {key for probe in probes(search.space, search.sampler) for key in probe}:
        if any(key == one or key.startswith(f"{one}.") for one in yardsticks):
            raise ConfigError(
                f"{search.space.origin}: '{key}' changes what '{search.metric}' measures, so that "
                "trials cannot be compared: leave it out"
                + (", or take a recall as --metric" if search.metric.endswith("/loss") else "")
            )


def _identity(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that decide what its trials give."""
    decisive = ("train.evaluate_every", "evaluate")
    free = [key for key in FREE_TO_CHANGE if key not in decisive]
    return {
        key: value
        for key, value in flat(table).items()
        if not any(key == one or key.startswith(f"{one}.") for one in free)
    }


def _finish(tuning: Tuning, table: Mapping[str, Any], console: Console) -> None:
    # Imported here: matplotlib is slow to start.
    from bifocal.cli.tune_page import tune_page

    outcomes = tuning.outcomes()
    if not outcomes:
        return
    console.print(_table(tuning))
    written = [write_best(tuning, table)]
    with one_message(f"write the report to {tuning.out}"):
        written.append(tune_page(tuning).write(tuning.out / "report.html"))
    states = [one.state for one in outcomes]
    counts = {state: states.count(state) for state in ("complete", "pruned", "failed", "running")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    console.print(f"{len(outcomes)} of {tuning.search.trials} trials: {told}", highlight=False)
    for path in written:
        if path is not None:
            console.print(str(path), markup=False, soft_wrap=True, highlight=False)


def _table(tuning: Tuning) -> Table:
    """Return the best trials, then as many of the others as have room."""
    sign = -1 if tuning.search.higher else 1
    order = {"complete": 0, "pruned": 1, "running": 2, "failed": 3}
    outcomes = sorted(
        tuning.outcomes(), key=lambda one: (order[one.state], sign * (one.value or 0.0))
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column(tuning.search.metric, justify="right", overflow="fold", max_width=22)
    table.add_column("state", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for one in outcomes[:SHOWN]:
        value = "" if one.value is None else f"{one.value:.4f}"
        table.add_row(str(one.number), value, one.state, _shown(one.settings))
    return table


def _shown(settings: Mapping[str, Any]) -> str:
    short = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in settings.items()}
    return ", ".join(f"{key} {value}" for key, value in short.items())
