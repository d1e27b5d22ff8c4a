"""Scatter plots: one dot a trial, a setting or its turn across, what it reached upwards.

Knows: how dots become one themed, captioned, inline SVG. Must not know: what was tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bifocal.report.formats import format_number, format_percent, format_value, tick_texts
from bifocal.report.markup import Html, element, one_line
from bifocal.report.scales import scale_axes
from bifocal.report.theme import MUTED, SERIES, SURFACE, drawing, inline_svg, pixel_figure

_WIDTH, _HEIGHT = 400, 236
_LEFT, _TOP, _RIGHT, _BOTTOM = 52.0, 14.0, 18.0, 28.0
_X_LABEL = 28.0  # more to the right
_NAME_LENGTH = 10


@dataclass(frozen=True)
class Dot:
    """One dot.

    Args:
        x: A number, or anything else where the horizontal scale has names.
        y: A number; a dot whose number is not finite is not drawn.
        kind: `best` is ringed, `partial` is hollow: its value is not final.
    """

    x: Any
    y: float | int
    kind: str = ""


@dataclass(frozen=True)
class ScatterPlot:
    """What one scatter plot shows.

    Args:
        title: Name of the plot.
        dots: In any order.
        x_label: What stands across, in a word or two.
        log: Whether the horizontal scale is logarithmic.
        names: Names along the horizontal scale, for values that are no numbers.
        percent: Whether heights are fractions, to be shown as percentages.
        line: Positions and heights of a line behind the dots that moves in steps.
        notes: What marks mean, below the plot.
    """

    title: str
    dots: Sequence[Dot]
    x_label: str = ""
    log: bool = False
    names: Sequence[Any] = ()
    percent: bool = False
    line: tuple[Sequence[float | int], Sequence[float | int]] | None = None
    notes: Sequence[str] = ()


def scatter_plot(plot: ScatterPlot) -> Html:
    """Return the plot as a captioned figure."""
    caption = element("figcaption", element("b", plot.title))
    dots = [dot for dot in plot.dots if np.isfinite(dot.y)]
    if not dots:
        return element("figure", caption, element("p", "No data.", class_="empty"))
    with drawing():
        figure = pixel_figure(_WIDTH, _HEIGHT)
        right = _RIGHT + (_X_LABEL if plot.x_label else 0.0)
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / _HEIGHT,
                (_WIDTH - _LEFT - right) / _WIDTH,
                (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT,
            )
        )
        if plot.line is not None:
            axes.step(*plot.line, where="post", color=SERIES[0], linewidth=1.6, zorder=1)
        for dot in sorted(dots, key=lambda dot: dot.kind == "best"):
            _draw(axes, plot, dot)
        low, high = axes.get_ylim()
        scale_axes(axes, plot.x_label, percent=plot.percent, log=False)
        axes.set_ylim(low, high)  # differences are what is looked for, not distance from nought
        _across(axes, plot)
        svg = inline_svg(figure, _description(plot, dots))
    notes = element("p", *(element("span", note) for note in plot.notes), class_="notes")
    return element("figure", caption, svg, notes)


def _draw(axes: Axes, plot: ScatterPlot, dot: Dot) -> None:
    x = list(plot.names).index(dot.x) if plot.names else dot.x
    match dot.kind:
        case "best":
            style = {"markersize": 8, "color": SERIES[1], "markeredgewidth": 0}
        case "partial":
            style = {
                "markersize": 5,
                "markerfacecolor": SURFACE,
                "markeredgecolor": MUTED,
                "markeredgewidth": 1.2,
            }
        case _:
            style = {"markersize": 5.5, "color": SERIES[0], "markeredgewidth": 0, "alpha": 0.75}
    axes.plot(x, dot.y, "o", clip_on=False, zorder=3, **style)


def _across(axes: Axes, plot: ScatterPlot) -> None:
    """Set the horizontal scale."""
    if plot.names:
        texts = [one_line(format_value(name), _NAME_LENGTH) for name in plot.names]
        axes.xaxis.set_major_locator(FixedLocator(range(len(texts))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: texts[round(x)]))
        axes.set_xlim(-0.5, len(texts) - 0.5)
    elif plot.log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick_texts([x])[0]))
    else:
        whole = all(isinstance(dot.x, int) for dot in plot.dots)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10), integer=whole))


def _description(plot: ScatterPlot, dots: Sequence[Dot]) -> str:
    values = [float(dot.y) for dot in dots]
    text = format_percent if plot.percent else format_number
    across = f" against {plot.x_label}" if plot.x_label else ""
    return f"{plot.title}{across}: {len(dots)} dots from {text(min(values))} to {text(max(values))}"
