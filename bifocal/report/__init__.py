"""Reports: plain data in, figures, tables and one self-contained page out.

Knows: how numbers and pictures are shown. Must not know: models, data, training or evaluation.
What draws imports matplotlib, a third of a second; names are therefore found when they are asked
for, and tables and formats cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bifocal.report.confusion import class_accuracy, confusion_matrix
    from bifocal.report.curves import training_curves
    from bifocal.report.formats import format_percent
    from bifocal.report.gallery import Hit, Prediction, Query, predictions, retrievals
    from bifocal.report.grid import picture_grid
    from bifocal.report.matrix import HeatMap, heat_map
    from bifocal.report.page import Card, Page, Section
    from bifocal.report.plots import LinePlot, Reference, line_plot
    from bifocal.report.series import Series
    from bifocal.report.tables import (
        Column,
        Table,
        settings_list,
        table_html,
        table_markdown,
        table_text,
    )

__all__ = [
    "Card",
    "Column",
    "HeatMap",
    "Hit",
    "LinePlot",
    "Page",
    "Prediction",
    "Query",
    "Reference",
    "Section",
    "Series",
    "Table",
    "class_accuracy",
    "confusion_matrix",
    "format_percent",
    "heat_map",
    "line_plot",
    "picture_grid",
    "predictions",
    "retrievals",
    "settings_list",
    "table_html",
    "table_markdown",
    "table_text",
    "training_curves",
]

_ROOMS = {
    "confusion": ("class_accuracy", "confusion_matrix"),
    "curves": ("training_curves",),
    "formats": ("format_percent",),
    "gallery": ("Hit", "Prediction", "Query", "predictions", "retrievals"),
    "grid": ("picture_grid",),
    "matrix": ("HeatMap", "heat_map"),
    "page": ("Card", "Page", "Section"),
    "plots": ("LinePlot", "Reference", "line_plot"),
    "series": ("Series",),
    "tables": ("Column", "Table", "settings_list", "table_html", "table_markdown", "table_text"),
}
_WHERE = {name: module for module, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
