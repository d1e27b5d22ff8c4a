"""`bifocal evaluate linear-probe`: a linear classifier on frozen image features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.figures import bounds, by_name, reading, write_figures
from bifocal.data.sources import open_source
from bifocal.errors import ConfigError
from bifocal.evaluate.frozen import Labelled, frozen_features
from bifocal.evaluate.linear_probe import (
    FewShotResult,
    LinearProbeResult,
    Probe,
    few_shot_probe,
)
from bifocal.evaluate.linear_probe import linear_probe as measure
from bifocal.interop.load import load


class Kind(StrEnum):
    """Which features are probed."""

    penultimate = "penultimate"
    projected = "projected"


class Share(StrEnum):
    """What is counted."""

    top1 = "top1"
    mean_per_class = "mean_per_class"


def linear_probe(
    model: Annotated[
        str, typer.Argument(help="A run, a saved model of any make, or a published name.")
    ],
    train: Annotated[str, typer.Option(help="Labelled pictures to learn from.")],
    test: Annotated[str, typer.Option(help="Labelled pictures to test on.")],
    validation: Annotated[
        str, typer.Option(help="Labelled pictures to choose C by; else a part of --train.")
    ] = "",
    shots: Annotated[
        str, typer.Option(help="Examples a class, as 1,2,4,8,16; all of them if empty.")
    ] = "",
    repeats: Annotated[int, typer.Option(help="Draws of the few examples.", min=1)] = 3,
    features: Annotated[
        Kind, typer.Option(help="The paper's, or those of the shared space.")
    ] = Kind.penultimate,
    metric: Annotated[Share, typer.Option(help="What is counted.")] = Share.top1,
    seed: Annotated[int, typer.Option(help="Of splits, draws and intervals.", min=0)] = 0,
    classes: Annotated[str, typer.Option(help="JSON list of class names.")] = "",
    limit: Annotated[int | None, typer.Option(help="Read only so many of each.", min=1)] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
) -> None:
    """Fit a linear classifier to frozen image features, by the paper's protocol."""
    asked = _shots(shots)
    pretrained = load(model)
    specs = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    sources = {
        name: open_source(spec, reading(pretrained, classes)) for name, spec in specs.items()
    }
    working = Console(stderr=True)
    sets: dict[str, Labelled] = {}
    for name, source in sources.items():
        with working.status(f"reading the {name} pictures"):
            sets[name] = frozen_features(pretrained, source, features.value, limit=limit)
    with working.status("fitting"):
        table, figures = _measured(sets, asked, repeats, Probe(metric=metric.value, seed=seed))
    Console().print(table)
    if output is not None:
        skipped = {name: one.skipped for name, one in sets.items()}
        write_figures({**figures, "skipped": skipped}, output)


def _measured(
    sets: Mapping[str, Labelled], shots: Sequence[int], repeats: int, probe: Probe
) -> tuple[Table, Mapping[str, object]]:
    train, test, validation = sets["train"], sets["test"], sets.get("validation")
    if not shots:
        result = measure(train, test, validation, probe)
        return _whole(result), _figures(result)
    few = [
        few_shot_probe(train, test, count, validation, repeats=repeats, probe=probe)
        for count in shots
    ]
    return _few(few), {"few_shot": [_few_figures(one) for one in few]}


def _shots(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise ConfigError(f"--shots is '{text}': write counts of 1 or more, as --shots 1,2,4,8,16")
    return counts


def _whole(result: LinearProbeResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("linear probe", "value"):
        table.add_column(title, justify="right" if title == "value" else "left")
    table.add_row(f"accuracy ({result.metric.replace('_', ' ')})", f"{result.accuracy:.2%}")
    table.add_row(f"{result.interval.level:.0%} interval", bounds(result.interval))
    table.add_row("C", f"{result.C:.3g}")
    table.add_row("features", result.features)
    for name in ("classes", "train", "validation", "test", "unconverged"):
        table.add_row(name, f"{getattr(result, name):,}")
    return table


def _few(results: Sequence[FewShotResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("shots", "accuracy", "std", "draws", "interval of the first", "C"):
        table.add_column(title, justify="right")
    for one in results:
        first = one.results[0]
        table.add_row(
            str(one.shots),
            f"{one.mean:.2%}",
            "" if one.std is None else f"{100 * one.std:.2f}",
            str(len(one.results)),
            bounds(first.interval),
            ", ".join(f"{result.C:.2g}" for result in one.results),
        )
    return table


def _figures(result: LinearProbeResult) -> dict[str, object]:
    shown = {one.name: getattr(result, one.name) for one in fields(result) if one.name != "right"}
    return {**shown, **by_name({"interval": result.interval})}


def _few_figures(few: FewShotResult) -> dict[str, object]:
    results = [_figures(result) for result in few.results]
    return {"shots": few.shots, "mean": few.mean, "std": few.std, "results": results}
