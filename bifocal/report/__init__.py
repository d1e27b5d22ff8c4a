"""Reports: plain data in, figures, tables and one self-contained page out.

Knows: how numbers and pictures are shown. Must not know: models, data, training or evaluation.
Importing it imports matplotlib; whoever must start fast imports it when the report is written.
"""

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
