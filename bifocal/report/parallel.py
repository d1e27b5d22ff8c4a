"""Parallel coordinates: one upright axis a setting, one line a trial, what it reached at the end.

Inselberg 1985, "The plane with parallel coordinates". Knows: how values of any kind become heights
and lines. Must not know: what was tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bifocal.report.formats import format_number, format_percent, format_value
from bifocal.report.markup import Html, element, one_line
from bifocal.report.theme import (
    GRID,
    INK,
    MUTED,
    SERIES,
    SURFACE,
    drawing,
    inline_svg,
    pixel_figure,
)

_AXIS, _HEIGHT = 132.0, 300.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 70.0, 36.0, 76.0, 22.0
_NAME_LENGTH, _VALUE_LENGTH = 18, 10
TOP = 0.25
"""Share of the lines, the best ones, that stand out."""


@dataclass(frozen=True)
class Axis:
    """One upright axis.

    Args:
        title: Name of the setting.
        values: Of every line, in the order of the lines; None where a line has none.
        log: Whether its scale is logarithmic.
        percent: Whether values are fractions, to be shown as percentages.
    """

    title: str
    values: Sequence[Any]
    log: bool = False
    percent: bool = False

    def heights(self) -> np.ndarray:
        """Return each line's height in 0…1; NaN where it has none."""
        if not self._numbers():
            names = self.names()
            top = max(len(names) - 1, 1)
            found = [math.nan if v is None else names.index(v) / top for v in self.values]
            return np.asarray(found)
        values = np.asarray([math.nan if v is None else float(v) for v in self.values])
        if self.log:
            values = np.log(np.where(values > 0, values, np.nan))
        if np.isnan(values).all():
            return values
        low, high = np.nanmin(values), np.nanmax(values)
        return (
            (values - low) / (high - low) if high > low else np.where(np.isnan(values), values, 0.5)
        )

    def names(self) -> list[Any]:
        """Return the different values, in order of appearance."""
        found: list[Any] = []
        for value in self.values:
            if value is not None and value not in found:
                found.append(value)
        return found

    def ticks(self) -> list[tuple[float, str]]:
        """Return heights and what is written beside them."""
        if not self._numbers():
            names = self.names()
            return [(n / max(len(names) - 1, 1), format_value(v)) for n, v in enumerate(names)]
        present = sorted({float(value) for value in self.values if value is not None})
        if not present:
            return []
        text = format_percent if self.percent else _rounded
        if present[0] == present[-1]:
            return [(0.5, text(present[0]))]
        if len(present) <= 6:
            heights = Axis(self.title, present, self.log).heights()
            return [(float(h), text(v)) for h, v in zip(heights, present, strict=True)]
        low, high = present[0], present[-1]
        shares = (0.0, 0.25, 0.5, 0.75, 1.0)
        if self.log:
            return [(share, text(low * (high / low) ** share)) for share in shares]
        return [(share, text(low + share * (high - low))) for share in shares]

    def _numbers(self) -> bool:
        present = [value for value in self.values if value is not None]
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)


def _rounded(value: float | int) -> str:
    """Return a number as short as an axis needs it."""
    return format_number(float(f"{value:.2g}" if abs(value) < 100 else f"{value:.3g}"))


def parallel_plot(title: str, axes: Sequence[Axis], higher: bool = True) -> Html:
    """Return the plot as a captioned figure.

    Args:
        title: Of the figure.
        axes: From left to right; the last is what was reached, and by it lines stand out.
        higher: Whether more of the last is better.
    """
    caption = element("figcaption", element("b", title))
    reached = axes[-1].heights() if axes else np.empty(0)
    if len(axes) < 2 or not np.isfinite(reached).any():
        return element("figure", caption, element("p", "No data.", class_="empty"))
    width = _LEFT + _RIGHT + _AXIS * (len(axes) - 1)
    with drawing():
        figure = pixel_figure(width, _HEIGHT)
        area = figure.add_axes(
            (
                _LEFT / width,
                _BOTTOM / _HEIGHT,
                (width - _LEFT - _RIGHT) / width,
                (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT,
            )
        )
        _draw_lines(area, axes, reached if higher else 1 - reached)
        _draw_axes(area, axes)
        svg = inline_svg(figure, _description(title, axes))
    notes = [element("span", "thick: the best"), element("span", "blue: the best quarter")]
    parts = caption, svg, element("p", *notes, class_="notes")
    return element("figure", *parts, class_="heat", style=f"--widest:{1.2 * width:.0f}px")


def _draw_lines(area: Axes, axes: Sequence[Axis], goodness: np.ndarray) -> None:
    heights = np.stack([axis.heights() for axis in axes])
    order = np.argsort(np.nan_to_num(goodness, nan=-1.0), kind="stable")
    finite = int(np.isfinite(goodness).sum())
    standing_out = max(1, math.ceil(TOP * finite))
    for place, line in enumerate(order):
        rank = len(order) - 1 - place
        if np.isnan(goodness[line]):
            continue
        if rank == 0:
            style = {"color": SERIES[1], "linewidth": 3.0, "alpha": 1.0}
        elif rank < standing_out:
            style = {"color": SERIES[0], "linewidth": 1.6, "alpha": 0.85}
        else:
            style = {"color": MUTED, "linewidth": 1.0, "alpha": 0.3}
        area.plot(
            range(len(axes)), heights[:, line], marker="o", markersize=3, zorder=place, **style
        )


def _draw_axes(area: Axes, axes: Sequence[Axis]) -> None:
    """Draw each axis with its values to the left, the last one's to the right, its name above."""
    for side in ("left", "bottom"):
        area.spines[side].set_visible(False)
    area.set_xticks([])
    area.set_yticks([])
    area.set_xlim(0, len(axes) - 1)
    area.set_ylim(-0.02, 1.02)
    for x, axis in enumerate(axes):
        area.axvline(x, color=GRID, linewidth=1.2, zorder=0, clip_on=False)
        last = x == len(axes) - 1
        place = {"textcoords": "offset points", "annotation_clip": False}
        for height, text in axis.ticks():
            area.annotate(
                one_line(text, _VALUE_LENGTH),
                (x, height),
                xytext=(8 if last else -8, 0),
                ha="left" if last else "right",
                va="center",
                color=MUTED,
                zorder=1000,
                bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1, "alpha": 0.8},
                **place,
            )
        name = one_line(axis.title, _NAME_LENGTH)
        area.annotate(name, (x, 1.02), xytext=(0, 12), ha="center", color=INK, **place)


def _description(title: str, axes: Sequence[Axis]) -> str:
    names = ", ".join(axis.title for axis in axes)
    return f"{title}: {len(axes[0].values)} lines over {names}."
