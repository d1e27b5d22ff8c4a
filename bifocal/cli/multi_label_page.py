"""A page about one zero-shot scoring of pictures of several classes: figures and precision."""

from __future__ import annotations

import torch

from bifocal.cli.zero_shot_page import figures_section, settings_section, unread
from bifocal.evaluate.multi_label import MultiLabelResult
from bifocal.evaluate.record import Record
from bifocal.report import (
    Card,
    Column,
    LinePlot,
    Page,
    Section,
    Series,
    Table,
    line_plot,
    table_html,
)
from bifocal.report.markup import Html

BEYOND = "at each share of a class that is found, the best precision there or beyond"


def multi_label_page(result: MultiLabelResult, record: Record) -> Page:
    """Return the page of a result and its record."""
    metrics, found = record.metrics, result.relevant.sum(dim=1).double()
    return Page(
        title=f"Zero-shot, several classes a picture: {record.data.spec}",
        subtitle=f"{record.model.name} · protocol {record.protocol}",
        cards=[
            Card(
                "mAP", f"{metrics['mean_average_precision']:.1%}", f"chance {metrics['chance']:.1%}"
            ),
            Card("11-point mAP", f"{metrics['mean_average_precision_11_points']:.1%}"),
            Card("Classes a picture", f"{found.mean():.2f}", f"{len(found):,} pictures"),
        ],
        sections=[
            figures_section(record),
            Section("Precision", _curves(result), note=BEYOND, columns=2),
            Section("Classes", [table_html(_classes(result))]),
            settings_section(record),
        ],
        warnings=unread(result.skipped),
    )


def _curves(result: MultiLabelResult) -> list[Html]:
    """Return precision by recall: on average, and of the best and the worst class."""
    curves, area = result.curves(), result.by_class("area")
    levels = torch.linspace(0, 1, curves.shape[1]).tolist()
    order = area.nan_to_num(-1).argsort(descending=True)
    order = order[~area[order].isnan()].tolist()
    mean = [Series("mean", levels, curves.nanmean(dim=0).tolist())]
    ends = [
        Series(result.class_names[place], levels, curves[place].tolist())
        for place in dict.fromkeys((order[0], order[-1]))
    ]
    titles = {"Precision by recall, mean over classes": mean, "Best and worst class": ends}
    return [
        line_plot(LinePlot(title, lines, x_label="recall", percent=True))
        for title, lines in titles.items()
    ]


def _classes(result: MultiLabelResult) -> Table:
    counts = result.relevant.sum(dim=0).tolist()
    area, eleven = result.by_class("area").tolist(), result.by_class("eleven points").tolist()
    rows = [
        {"class": name, "images": count, "precision": area[n], "eleven": eleven[n]}
        if count
        else {"class": name, "images": 0}
        for n, (name, count) in enumerate(zip(result.class_names, counts, strict=True))
    ]
    rows.sort(key=lambda row: row.get("precision", 2.0))
    columns = [
        "class",
        "images",
        Column("precision", "average precision", align="right", bar=True),
        Column("eleven", "at 11 points", align="right", bar=True),
    ]
    return Table(
        rows, columns, "Average precision per class, worst first; last, classes without pictures"
    )
