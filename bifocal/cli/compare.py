"""`bifocal evaluate compare`: is one model better than another on the same examples."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.arguments import FiguresFile
from bifocal.cli.evaluation_table import is_share
from bifocal.cli.figures import write_figures
from bifocal.evaluate.compare import Comparison, MetricComparison
from bifocal.evaluate.compare import compare as measure
from bifocal.evaluate.record import read_record
from bifocal.evaluate.statistics import Bootstrap

First = Annotated[Path, typer.Argument(help="A record that `bifocal evaluate` wrote.")]
Second = Annotated[Path, typer.Argument(help="Another, on the same data by the same protocol.")]


def compare(
    first: First,
    second: Second,
    seed: Annotated[int, typer.Option(help="Of the resamples.", min=0)] = 0,
    resamples: Annotated[int, typer.Option(help="Draws of the bootstrap.", min=100)] = 2000,
    output: FiguresFile = None,
) -> None:
    """Say how much better the first of two results is, and whether by more than luck."""
    records = read_record(first), read_record(second)
    found = measure(*records, Bootstrap(resamples=resamples, seed=seed))
    console = Console(highlight=False)
    for letter, record, path in zip("AB", records, (first, second), strict=True):
        console.print(f"{letter}  {record.model.name}  ({path})", markup=False, soft_wrap=True)
    console.print(_table(found))
    for note in _notes(found, resamples, seed):
        console.print(note, markup=False)
    if output is not None:
        paths = {"first": str(first), "second": str(second)}
        write_figures({**paths, "resamples": resamples, "seed": seed, **asdict(found)}, output)


def _table(found: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for title in ("A", "B", "A - B", "95% interval", "p"):
        table.add_column(title, justify="right")
    for one in found.metrics:
        gap = one.paired.difference
        times = 100 if is_share(one.metric) else 1
        table.add_row(
            one.metric.replace("_", " "),
            f"{times * one.first:.2f}",
            f"{times * one.second:.2f}",
            f"{times * gap.value:+.2f}",
            f"{times * gap.low:+.2f} … {times * gap.high:+.2f}",
            _p(one),
        )
    return table


def _p(one: MetricComparison) -> str:
    """Return a p-value; a bootstrap's cannot be told from zero below a resample's worth."""
    least = 1e-4 if one.exact else 1 / one.paired.difference.resamples
    return f"< {least:.4f}" if one.p_value < least else f"{one.p_value:.4f}"


def _notes(found: Comparison, resamples: int, seed: int) -> list[str]:
    notes = [
        "Shares in points of percent. Intervals: paired BCa bootstrap of "
        f"{resamples:,}, seed {seed}.",
        "p: McNemar's exact test where every picture is right or wrong by itself, else the "
        "bootstrap's.",
    ]
    for one in found.metrics:
        if one.exact is not None:
            notes.append(
                f"{one.metric.replace('_', ' ')}: {one.exact.only_first:,} only A has right, "
                f"{one.exact.only_second:,} only B."
            )
    left_out = max(one.left_out for one in found.metrics)
    if left_out:
        notes.append(f"{left_out:,} examples are in one record only and were left out.")
    if found.unpaired:
        notes.append(f"Not compared, without outcomes in both: {', '.join(found.unpaired)}.")
    deciding = [one.name for one in found.settings if one.decides]
    if deciding:
        notes.append(f"Beside the models these settings differ: {', '.join(deciding)}.")
    return notes
