"""A page about one zero-shot evaluation: figures, confusion, reliability."""

from __future__ import annotations

from collections.abc import Sequence

from bifocal.cli.evaluation_table import between, written
from bifocal.evaluate.calibration import Bin
from bifocal.evaluate.explain import flatten, shorten
from bifocal.evaluate.record import Record
from bifocal.evaluate.zero_shot import ZeroShotResult
from bifocal.report import (
    Card,
    Column,
    LinePlot,
    Page,
    Section,
    Series,
    Table,
    class_accuracy,
    confusion_matrix,
    line_plot,
    settings_list,
    table_html,
)
from bifocal.report.markup import Html

SHOWN = 24
"""Characters of a setting."""


def zero_shot_page(result: ZeroShotResult, record: Record) -> Page:
    """Return the page of a result and its record."""
    counts, names = result.confusion().numpy(), result.class_names
    found = result.calibration()
    reliability = [
        _diagram("Reliability, bins of equal width", found.equal_width),
        _diagram("Reliability, bins of equal mass", found.equal_mass),
    ]
    note = "on the line of equality, what is said with 70 % confidence is right in 70 % of cases"
    headline = "acc1" if "acc1" in record.metrics else "top1"
    return Page(
        title=f"Zero-shot: {record.data.spec}",
        subtitle=f"{record.model.name} · protocol {record.protocol}",
        cards=[
            Card(headline, f"{record.metrics[headline]:.1%}", f"chance {1 / len(names):.1%}"),
            Card("ECE", f"{found.ece:.1%}", f"mean confidence {found.confidence:.1%}"),
        ],
        sections=[
            figures_section(record),
            Section("Calibration", reliability, note=note, columns=2),
            Section("Confusion", [confusion_matrix(counts, names)]),
            Section("Classes", [table_html(class_accuracy(counts, names))]),
            settings_section(record),
        ],
        warnings=unread(result.skipped),
    )


def figures_section(record: Record) -> Section:
    """Return all figures of a record with their intervals."""
    rows = [
        {"metric": name.replace("_", " "), "value": written(name, value)}
        | ({"interval": between(name, record.intervals[name])} if name in record.intervals else {})
        for name, value in record.metrics.items()
    ]
    columns = ["metric", "value", Column("interval", "95 % interval")]
    return Section("Figures", [table_html(Table(rows, columns))])


def settings_section(record: Record) -> Section:
    """Return all settings of a record, long ones cut."""
    settings = {
        name.removeprefix("settings."): shorten(value, "", SHOWN)
        for name, value in flatten(record).items()
        if name.startswith("settings.")
    }
    return Section("Settings", [settings_list(settings)])


def unread(pictures: int) -> list[str]:
    """Return the warning of a page about pictures that could not be read."""
    return [f"{pictures} pictures could not be read"] if pictures else []


def _diagram(title: str, bins: Sequence[Bin]) -> Html:
    seen = [one for one in bins if one.images]
    confidence = [one.confidence for one in seen]
    lines = [
        Series("accuracy", confidence, [one.accuracy for one in seen]),
        Series("equality", [0.0, 1.0], [0.0, 1.0]),
    ]
    return line_plot(LinePlot(title, lines, x_label="confidence", percent=True))
