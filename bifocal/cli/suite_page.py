"""The page of a suite: its figures with their intervals, the table, what failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from bifocal import __version__
from bifocal.evaluate.suite_config import SuiteConfig
from bifocal.evaluate.suite_rows import Row
from bifocal.report.estimates import Estimate, estimate_plot
from bifocal.report.formats import format_percent
from bifocal.report.page import Card, Page, Section
from bifocal.report.tables import Column, Table, settings_list, table_html

TITLES = {
    "zeroshot_classification": "Zero-shot classification",
    "zeroshot_retrieval": "Zero-shot retrieval",
    "linear_probe": "Linear probes",
}
PLOTTED = {
    "acc1": "Top-1 accuracy",
    "mean_average_precision": "Mean average precision, several classes a picture",
    "image_retrieval_recall@5": "Image retrieval, recall@5",
    "text_retrieval_recall@5": "Text retrieval, recall@5",
    "lp_acc1": "Top-1 accuracy",
}
"""Metrics that are drawn, and what they are called."""
HIDDEN = ("chance", "images", "texts", "rank", "confidence", "ece_equal_mass", "nll", "brier")


def suite_page(config: SuiteConfig, rows: Sequence[Row]) -> Page:
    """Return the page of a suite's rows."""
    failed = [row for row in rows if row.error]
    sections = [_section(task, rows) for task in TITLES if _of(task, rows)]
    sections.append(Section("Settings", [settings_list(config.model_dump(mode="json"))]))
    counts = {
        "models": len(config.models),
        "data sets": len(config.data),
        "cells": len(rows) - len(failed),
        "failed": len(failed),
    }
    return Page(
        title="bifocal suite",
        subtitle=f"protocol {config.protocol}, {datetime.now():%d %B %Y %H:%M}",
        cards=[Card(name, str(count)) for name, count in counts.items()],
        sections=sections,
        warnings=failures(rows),
        footer=f"bifocal {__version__}",
    )


def failures(rows: Sequence[Row]) -> list[str]:
    """Return a line a reason: where it struck, and what it says."""
    # A model that cannot be loaded fails on every data set, for one reason.
    places: dict[str, list[str]] = {}
    for row in rows:
        if row.error:
            places.setdefault(row.error, []).append(f"{row.model} on {row.dataset}")
    return [f"{', '.join(where)}: {error}" for error, where in places.items()]


def _section(task: str, rows: Sequence[Row]) -> Section:
    found = _of(task, rows)
    plots = [_plot(name, title, found) for name, title in PLOTTED.items() if _has(name, found)]
    note = "Lines are 95 % bootstrap intervals over pictures."
    return Section(TITLES[task], [*plots, table_html(_table(found))], note)


def _plot(name: str, title: str, rows: Sequence[Row]) -> str:
    estimates = []
    for row in rows:
        value = row.metrics.get(name, math.nan)
        if math.isfinite(value):
            one = row.intervals.get(name)
            low, high = (one.low, one.high) if one else (value, value)
            estimates.append(Estimate(row.dataset, row.model, value, low, high))
    # Side by side per data set, whatever order they were measured in.
    order = {row.dataset: n for n, row in reversed(list(enumerate(rows)))}
    return estimate_plot(title, sorted(estimates, key=lambda one: order[one.group]))


def _table(rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    shown = [name for name in names if not any(part in name for part in HIDDEN)]
    columns = [Column("dataset"), Column("model"), Column("pretrained"), Column("protocol")]
    columns += [Column(name, name.replace("_", " "), format=format_percent) for name in shown]
    lines = [
        {
            "dataset": row.dataset,
            "model": row.model,
            "pretrained": row.pretrained,
            "protocol": row.protocol,
            **{name: value for name, value in row.metrics.items() if math.isfinite(value)},
        }
        for row in rows
    ]
    return Table(lines, columns)


def _of(task: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.task == task and not row.error]


def _has(name: str, rows: Sequence[Row]) -> bool:
    return any(math.isfinite(row.metrics.get(name, math.nan)) for row in rows)
