"""How linear probes are shown in a terminal, and their figures as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from rich import box
from rich.table import Table

from bifocal.cli.figures import bounds, by_name
from bifocal.evaluate.adamw_probe import AdamWProbeResult
from bifocal.evaluate.linear_probe import FewShotResult, LinearProbeResult


def whole_table(result: LinearProbeResult) -> Table:
    """Return the table of one probe by the paper's protocol."""
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


def few_table(results: Sequence[FewShotResult]) -> Table:
    """Return the table of probes of few examples, one row a number of shots."""
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


def adamw_table(result: AdamWProbeResult) -> Table:
    """Return the table of a probe by CLIP_benchmark's protocol."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("linear probe", "value", "95% interval"):
        table.add_column(title, justify="left" if title == "linear probe" else "right")
    intervals = result.intervals()
    for name, value in result.metrics().items():
        shown = bounds(intervals[name]) if name in intervals else "too few classes"
        table.add_row(name, "not defined" if math.isnan(value) else f"{value:.2%}", shown)
    table.add_row("weight decay", f"{result.weight_decay:.3g}")
    for name, count in _counts(result).items():
        table.add_row(name, f"{count:,}")
    return table


def whole_figures(result: LinearProbeResult) -> dict[str, object]:
    """Return the figures of one probe by the paper's protocol."""
    shown = {one.name: getattr(result, one.name) for one in fields(result) if one.name != "right"}
    return {**shown, **by_name({"interval": result.interval})}


def few_figures(few: FewShotResult) -> dict[str, object]:
    """Return the figures of probes of a few examples."""
    results = [whole_figures(result) for result in few.results]
    return {"shots": few.shots, "mean": few.mean, "std": few.std, "results": results}


def adamw_figures(result: AdamWProbeResult) -> dict[str, object]:
    """Return the figures of a probe by CLIP_benchmark's protocol."""
    # JSON has no word for what is not a number.
    metrics: Mapping[str, float | None] = {
        name: None if value != value else value for name, value in result.metrics().items()
    }
    return {
        **metrics,
        **asdict(result.probe),
        **_counts(result),
        "protocol": "clip_benchmark",
        "features": "projected",
        "weight_decay": result.weight_decay,
        "swept": result.swept,
        "intervals": by_name(result.intervals()),
    }


def _counts(result: AdamWProbeResult) -> dict[str, int]:
    return {
        "train": result.train,
        "validation": result.validation,
        "test": len(result.labels),
    }
