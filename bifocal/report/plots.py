"""Line plots: measured quantities over the steps of a run.

Knows: how series become one themed, captioned, inline SVG with what the pointer reads from it.
Must not know: models, training, or where the values come from.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from bifocal.report.formats import format_number, format_percent
from bifocal.report.markup import Html, element, one_line
from bifocal.report.scales import Label, count_pairs, scale_axes, text_width, write_labels
from bifocal.report.series import Series, lonely, smoothed, thinned, with_gaps
from bifocal.report.theme import ALARM, MUTED, SERIES, SURFACE, drawing, inline_svg, pixel_figure

WIDTH, HEIGHT = 400, 236
_LEFT, _TOP, _BOTTOM = 48.0, 12.0, 26.0
_LABEL_LENGTH = 18


@dataclass(frozen=True)
class Reference:
    """A level to compare with, drawn dashed and labelled at its end."""

    value: float | int
    label: str


@dataclass(frozen=True)
class LinePlot:
    """What one line plot shows.

    Args:
        title: Name of the quantity.
        series: The lines; six are told apart by colour, more also by dashes.
        unit: Shown after the title.
        x_label: What positions count.
        references: Levels to compare with.
        percent: Whether values are fractions, to be shown as percentages.
        log: Whether the vertical scale is logarithmic; values that are not positive are left out.
        pairs_per_step: When given, a second scale on top shows the image-text pairs seen.
    """

    title: str
    series: Sequence[Series]
    unit: str = ""
    x_label: str = "step"
    references: Sequence[Reference] = ()
    percent: bool = False
    log: bool = False
    pairs_per_step: float | int | None = None


@dataclass(frozen=True)
class _Line:
    """A series ready to draw: `trend` is what is read, `raw` the noise behind it."""

    series: Series
    colour: str
    dash: str
    x: np.ndarray
    raw: np.ndarray
    trend: np.ndarray
    broken: np.ndarray


def line_plot(plot: LinePlot) -> Html:
    """Return the plot as a captioned figure.

    A series of one point shows as a marker, an empty one not at all; where a value is not finite a
    cross stands on the axis.
    """
    lines = [_line(series, i, plot.log) for i, series in enumerate(plot.series)]
    shown = [line for line in lines if np.isfinite(line.raw).any()]
    if not any(line.x.size for line in lines):
        return element("figure", _caption(plot), element("p", "No data.", class_="empty"))
    with drawing():
        labels = _end_labels(plot, shown)
        x_label = one_line(plot.x_label, 12)
        texts = [x_label, *(text for _, text, _ in labels)]
        right = 12 + max(text_width(text) for text in texts)
        top = _TOP + (16 if plot.pairs_per_step else 0)
        figure = pixel_figure(WIDTH, HEIGHT)
        box = (_LEFT, top, WIDTH - right, HEIGHT - _BOTTOM)
        axes = figure.add_axes(
            (
                _LEFT / WIDTH,
                _BOTTOM / HEIGHT,
                (box[2] - box[0]) / WIDTH,
                (box[3] - box[1]) / HEIGHT,
            )
        )
        for line in lines:
            _draw(axes, line)
        for reference in plot.references:
            axes.axhline(reference.value, color=MUTED, linewidth=1.0, dashes=(4, 3), zorder=1)
        # A logarithmic scale of nothing does not exist.
        scale_axes(axes, x_label, percent=plot.percent, log=plot.log and bool(shown))
        if plot.pairs_per_step:
            count_pairs(axes, float(plot.pairs_per_step))
        write_labels(axes, labels)
        svg = inline_svg(figure, _description(plot, shown))
        limits = (axes.get_xlim(), axes.get_ylim())
    pointer = _pointer_data(plot, shown, box, limits)
    parts = _caption(plot), svg, _notes(plot, lines)
    return element("figure", *parts, class_="plot", data_plot=pointer)


def _line(series: Series, number: int, log: bool) -> _Line:
    x, raw = series.tidy()
    broken = x[np.isnan(raw)]
    if log:
        raw = np.where(raw > 0, raw, np.nan)
    trend = smoothed(raw, x.size // 40) if series.smooth else raw
    colour = SERIES[number % len(SERIES)]
    return _Line(series, colour, "-" if number < len(SERIES) else "--", x, raw, trend, broken)


def _draw(axes: Axes, line: _Line) -> None:
    colour = line.colour
    if line.series.smooth:
        axes.plot(*thinned(*with_gaps(line.x, line.raw)), color=colour, alpha=0.28, linewidth=0.8)
    x, y = thinned(*with_gaps(line.x, line.trend))
    axes.plot(x, y, color=colour, linewidth=1.8, linestyle=line.dash)
    marked = np.ones_like(y, dtype=bool) if line.x.size <= 24 else lonely(y)
    axes.plot(x[marked], y[marked], "o", color=colour, markersize=3.6, markeredgewidth=0)
    if line.series.chance is not None:
        axes.axhline(line.series.chance, color=colour, linewidth=1.0, dashes=(4, 3), zorder=1)
    best = line.series.best_point()
    if best is not None:
        axes.plot(
            *best, "o", markersize=8, markerfacecolor=SURFACE, color=colour, markeredgewidth=1.8
        )
    if line.broken.size:
        at = thinned(line.broken, np.zeros_like(line.broken), 100)[0]
        axes.plot(
            at,
            np.zeros_like(at),
            "x",
            color=ALARM,
            markersize=6,
            markeredgewidth=1.6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def _end_labels(plot: LinePlot, lines: Sequence[_Line]) -> list[Label]:
    """Return height, text and colour of the label at the end of each line."""
    labels = []
    for line in lines:
        last = float(line.trend[np.isfinite(line.trend)][-1])
        name = one_line(line.series.label, _LABEL_LENGTH) if len(plot.series) > 1 else ""
        labels.append((last, f"{name} {_value(plot, last)}".strip(), line.colour))
    for reference in plot.references:
        labels.append((float(reference.value), one_line(reference.label, _LABEL_LENGTH), MUTED))
    return labels


def _value(plot: LinePlot, value: float) -> str:
    return format_percent(value) if plot.percent else format_number(value)


def _caption(plot: LinePlot) -> Html:
    unit = element("span", plot.unit) if plot.unit else ""
    return element("figcaption", element("b", plot.title), unit)


def _notes(plot: LinePlot, lines: Sequence[_Line]) -> Html:
    """Return what the marks in the plot mean."""
    notes: list[object] = []
    for line in lines:
        best = line.series.best_point()
        if best is not None:
            where = f"{plot.x_label} {best[0]:,.0f}"
            notes.append(f"○ best {line.series.label}: {_value(plot, best[1])} at {where}")
        if line.broken.size:
            notes.append(f"× {line.series.label} not finite: {line.broken.size:,}")
    levels = [line.series.chance for line in lines if line.series.chance is not None]
    if levels:
        shown = " / ".join(_value(plot, level) for level in sorted(levels))
        notes.append(f"dashed: chance, {shown}")
    return element("p", *(element("span", note) for note in notes), class_="notes")


def _description(plot: LinePlot, lines: Sequence[_Line]) -> str:
    ends = []
    for line in lines:
        finite = np.isfinite(line.trend)
        first, last = line.trend[finite][0], line.trend[finite][-1]
        ends.append(f"{line.series.label} goes from {_value(plot, first)} to {_value(plot, last)}")
    return f"{plot.title} over {plot.x_label}: {'; '.join(ends) or 'no finite values'}."


def _pointer_data(
    plot: LinePlot, lines: Sequence[_Line], box: Sequence[float], limits: Sequence[Sequence[float]]
) -> str:
    """Return what the page's script needs to show values under the pointer, as JSON."""
    series = []
    for number, line in enumerate(lines):
        x, y = thinned(line.x, line.trend, 300)
        kept = np.isfinite(y)
        series.append(
            {
                "label": line.series.label,
                "colour": f"var(--series-{SERIES.index(line.colour) + 1})",
                "x": [float(f"{value:.8g}") for value in x[kept]],
                "y": [float(f"{value:.4g}") for value in y[kept]],
                "order": number,
            }
        )
    content = {
        "box": [round(edge, 1) for edge in box],
        "x": [float(limit) for limit in limits[0]],
        "y": [float(limit) for limit in limits[1]],
        "log": plot.log,
        "percent": plot.percent,
        "xLabel": plot.x_label,
        "series": series,
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
