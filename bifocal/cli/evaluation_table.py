"""How the figures of a record are written, and the table that `bifocal evaluate` prints of it."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.figures import bounds
from bifocal.evaluate.record import Record
from bifocal.evaluate.statistics import Interval

COUNTS = ("images", "texts", "skipped")
PLAIN = ("nll", "brier")


def show(record: Record) -> None:
    """Print a record's figures with their intervals."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    for title in ("value", "95% interval"):
        table.add_column(title, justify="right")
    metrics = {**record.metrics, "skipped": float(record.settings["skipped"])}
    for name, value in metrics.items():
        shown = between(name, record.intervals[name]) if name in record.intervals else ""
        table.add_row(name.replace("_", " "), written(name, value), shown)
    Console().print(table)


def is_share(metric: str) -> bool:
    """Return whether a metric is a share, which people read as points of percent."""
    return metric not in (*COUNTS, *PLAIN) and not metric.endswith("rank")


def between(metric: str, interval: Interval) -> str:
    """Return the bounds of a figure as people read them, in its own unit."""
    if is_share(metric):
        return bounds(interval)
    return f"{written(metric, interval.low)} – {written(metric, interval.high)}"


def written(metric: str, value: float) -> str:
    """Return a figure as people read it."""
    if math.isnan(value):
        return "not defined"
    if metric in COUNTS or metric.endswith("median_rank"):
        return f"{value:,.0f}"
    if metric in PLAIN:
        return f"{value:.4f}"
    return f"{value:.2%}" if is_share(metric) else f"{value:,.1f}"
