"""Figures with their intervals side by side: one line each, so that overlap is seen at once.

Knows: how shares and bounds are drawn. Must not know: what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FuncFormatter, MaxNLocator

from bifocal.report.formats import format_percent
from bifocal.report.markup import Html, element, one_line
from bifocal.report.scales import text_width
from bifocal.report.theme import GRID, INK, MUTED, SERIES, drawing, inline_svg, pixel_figure

_WIDTH, _ROW, _TOP, _BOTTOM, _RIGHT = 520.0, 20.0, 8.0, 28.0, 64.0
_NAME_LENGTH = 26


@dataclass(frozen=True)
class Estimate:
    """One line of a plot.

    Args:
        group: What stands together under one heading, such as a data set.
        label: What is measured, such as a model; equal labels have equal colours.
        value: A share.
        low: Lower bound; the value itself where there is none.
        high: Upper bound.
    """

    group: str
    label: str
    value: float
    low: float
    high: float


def estimate_plot(title: str, estimates: Sequence[Estimate], note: str = "") -> Html:
    """Return values as dots on their intervals, grouped, as a captioned figure."""
    caption = element("figcaption", element("b", title), element("small", note) if note else "")
    if not estimates:
        return element("figure", caption, element("p", "No data.", class_="empty"))
    labels = list(dict.fromkeys(one.label for one in estimates))
    colours = {label: SERIES[n % len(SERIES)] for n, label in enumerate(labels)}
    rows = _rows(estimates)
    height = _TOP + _BOTTOM + _ROW * len(rows)
    left = 16 + max(text_width(one_line(name, _NAME_LENGTH)) for name, _ in rows)
    with drawing():
        figure = pixel_figure(_WIDTH, height)
        share = (left / _WIDTH, _BOTTOM / height)
        size = ((_WIDTH - left - _RIGHT) / _WIDTH, (height - _TOP - _BOTTOM) / height)
        axes = figure.add_axes((*share, *size))
        for y, (_, one) in enumerate(rows):
            if one is None:
                continue
            colour = colours[one.label]
            axes.plot([one.low, one.high], [y, y], color=colour, linewidth=2)
            axes.plot(one.value, y, "o", color=colour, markersize=6, markeredgewidth=0)
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            text = format_percent(one.value)
            axes.annotate(text, (1, y), xytext=(8, 0), va="center", color=INK, **place)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [one_line(name, _NAME_LENGTH) for name, _ in rows])
        for tick, (_, one) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(INK if one is None else MUTED)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_percent(x, 0)))
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -0.02), min(high, 1.02))
        svg = inline_svg(figure, _description(title, estimates))
    return element("figure", caption, svg, class_="heat", style=f"--widest:{1.2 * _WIDTH:.0f}px")


def _rows(estimates: Sequence[Estimate]) -> list[tuple[str, Estimate | None]]:
    """Return names and estimates from top to bottom, each group under its heading."""
    rows: list[tuple[str, Estimate | None]] = []
    for group in dict.fromkeys(one.group for one in estimates):
        rows.append((group, None))
        rows += [(one.label, one) for one in estimates if one.group == group]
    return rows


def _description(title: str, estimates: Sequence[Estimate]) -> str:
    parts = [
        f"{one.label} on {one.group} {format_percent(one.value)} "
        f"({format_percent(one.low)} to {format_percent(one.high)})"
        for one in estimates
    ]
    return f"{title}: {'; '.join(parts)}."
