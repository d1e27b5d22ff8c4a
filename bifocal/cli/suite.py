"""`bifocal evaluate suite`: many data sets, models and tasks in one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.errors import Interrupted
from bifocal.evaluate.suite import Place, run_suite
from bifocal.evaluate.suite_config import SuiteConfig
from bifocal.evaluate.suite_rows import Row, write_table
from bifocal.settings import load
from bifocal.train.folders import one_message
from bifocal.train.recipe import DATA_ROOT
from bifocal.world import pick_device

MEAN_PRECISION = "mean_average_precision"
HEADLINES = (
    "acc1",
    MEAN_PRECISION,
    "image_retrieval_recall@1",
    "lp_acc1",
    "lp_mean_per_class_recall",
)
"""The metric that stands for a task: the first of these that a row has."""
SHORT = {
    "zeroshot_classification": "zero-shot",
    "zeroshot_retrieval": "retrieval",
    "linear_probe": "probe",
}


def suite(
    path: Annotated[Path, typer.Argument(help="TOML file of models, data sets and tasks.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings on top of the file's, as limit=500.", metavar="KEY=VALUE…"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of records and tables; by default beside the file.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Measure every cell that is not measured yet, and write one table of all.

    A cell that fails does not stop the others; the exit status is then 1.
    """
    config = load(SuiteConfig, path, overrides or [])
    folder = out or path.with_suffix("")
    place = Place(folder, Path(os.environ.get(DATA_ROOT, "")), pick_device(device))
    working = Console(stderr=True)
    rows: list[Row] = []
    failed = 0
    try:
        with working.status("") as status:
            for row in run_suite(config, place, status.update):
                rows.append(row)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; the same command goes on with {folder}: what was measured, and the features "
            "of every data set that was read, are kept"
        ) from None
    finally:
        # What is measured is shown even if the rest is not.
        if rows:
            failed = _finish(config, rows, folder)
    if failed:
        raise typer.Exit(1)


def _finish(config: SuiteConfig, rows: list[Row], folder: Path) -> int:
    """Write and show what there is; return how many cells failed."""
    # Imported here: matplotlib is slow to start.
    from bifocal.cli.suite_page import failures, suite_page

    paths = write_table(rows, folder)
    with one_message(f"write {folder / 'suite.html'}"):
        page = suite_page(config, rows).write(folder / "suite.html")
    console = Console(highlight=False)
    console.print(_table(rows))
    for line in failures(rows):
        console.print("[red]failed[/red] ", end="")
        console.print(line, markup=False, soft_wrap=True)
    failed = sum(bool(row.error) for row in rows)
    reused = sum(row.reused for row in rows)
    console.print(
        f"{len(rows)} cells: {len(rows) - failed - reused} measured, {reused} already there, "
        f"{failed} failed"
    )
    for written in (*paths, page):
        console.print(str(written), markup=False, soft_wrap=True)
    return failed


def _table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("dataset", "model"):
        table.add_column(title, overflow="fold")
    for title in ("task", "metric"):
        table.add_column(title, no_wrap=True)
    for title in ("%", "95% interval"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        task = SHORT.get(row.task, row.task)
        name = headline(row)
        if name is None:
            assert row.error, f"no figure stands for a row of {', '.join(row.metrics)}"
            table.add_row(row.dataset, row.model, task, "[red]failed[/red]", "", "")
            continue
        one = row.intervals.get(name)
        shown = "" if one is None else f"{100 * one.low:.1f} – {100 * one.high:.1f}"
        metric = name.replace("_retrieval_recall@", " R@").replace(MEAN_PRECISION, "mAP")
        value = f"{100 * row.metrics[name]:.2f}"
        table.add_row(row.dataset, row.model, task, metric, value, shown)
    return table


def headline(row: Row) -> str | None:
    """Return the name of the metric that stands for a row; None if it has none."""
    return next((name for name in HEADLINES if name in row.metrics), None)
