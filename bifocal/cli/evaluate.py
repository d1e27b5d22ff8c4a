"""`bifocal evaluate`: measures a saved model on labelled or captioned pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.figures import bounds, by_name, reading, write_figures
from bifocal.cli.linear_probe import linear_probe
from bifocal.data.sources import open_source
from bifocal.evaluate.retrieval import retrieval as measure_retrieval
from bifocal.evaluate.statistics import Interval
from bifocal.evaluate.zero_shot import zero_shot as measure_zero_shot
from bifocal.inputs.prompts import PHOTO
from bifocal.interop.load import load

app = typer.Typer(no_args_is_help=True, help="Measure a model: zero-shot, retrieval, probes.")
app.command("linear-probe")(linear_probe)

Model = Annotated[
    str, typer.Argument(help="A run, a saved model of any make, or a published name.")
]
Data = Annotated[str, typer.Argument(help="Shards ('test-*.tar'), a table, a folder, scenes:KIND.")]
Output = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
Limit = Annotated[int | None, typer.Option(help="Read only so many pictures.", min=1)]


@app.command("zero-shot")
def zero_shot(
    model: Model,
    data: Data,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt with {} for the name; may be repeated.")
    ] = None,
    classes: Annotated[str, typer.Option(help="JSON list of class names.")] = "",
    limit: Limit = None,
    output: Output = None,
) -> None:
    """Classify labelled pictures by the names of their classes."""
    pretrained = load(model)
    source = open_source(data, reading(pretrained, classes))
    result = measure_zero_shot(pretrained, source, template or PHOTO, limit=limit)
    figures = result.metrics() | {"skipped": float(result.skipped)}
    _show(figures, result.intervals(), output)


@app.command("retrieval")
def retrieval(model: Model, data: Data, limit: Limit = None, output: Output = None) -> None:
    """Find captions by pictures and pictures by captions."""
    pretrained = load(model)
    source = open_source(data, reading(pretrained))
    result = measure_retrieval(pretrained, source, limit=limit)
    figures = result.metrics() | {"skipped": float(result.skipped)}
    _show(figures, result.intervals(), output)


def _show(
    metrics: Mapping[str, float], intervals: Mapping[str, Interval], output: Path | None
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    for title in ("value", "95% interval"):
        table.add_column(title, justify="right")
    for name, value in metrics.items():
        counted = name in ("images", "texts", "skipped") or name.endswith("rank")
        shown = f"{value:,.0f}" if counted else f"{value:.2%}"
        table.add_row(
            name.replace("_", " "), shown, bounds(intervals[name]) if name in intervals else ""
        )
    Console().print(table)
    if output is not None:
        write_figures({**metrics, "intervals": by_name(intervals)}, output)
