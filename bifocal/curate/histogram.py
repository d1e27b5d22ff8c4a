"""How many of each size: bars, drawn like the plots of `bifocal.report`.

Knows counts and scales; knows nothing of what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bifocal.report.formats import format_number
from bifocal.report.markup import Html, element
from bifocal.report.plots import HEIGHT, WIDTH
from bifocal.report.scales import scale_axes, text_width
from bifocal.report.theme import SERIES, drawing, inline_svg, pixel_figure

BARS = 40
_LEFT, _TOP, _BOTTOM, _RIGHT = 48.0, 12.0, 26.0, 14.0


def histogram(
    title: str, values: Sequence[float | int] | np.ndarray, unit: str, note: str = ""
) -> Html:
    """Return bars of how often values occur, and their quantiles beneath.

    The rarest percent above is gathered into the last bar, so that one giant does not press all
    the others into the first.

    Args:
        title: what is counted.
        values: one a thing; whole numbers get whole bars.
        unit: what the values count.
        note: one more remark beneath.
    """
    numbers = np.asarray(values, dtype=np.float64)
    caption = element("figcaption", element("b", title), element("span", unit))
    if not numbers.size or numbers.min() == numbers.max():
        text = f"All are {format_number(numbers[0])}." if numbers.size else "None."
        return element("figure", caption, element("p", text, class_="empty"), class_="plot")
    edges = _edges(numbers)
    counts = np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)[0]
    low, middle, high = np.quantile(numbers, (0.01, 0.5, 0.99))
    told = (
        f"median {format_number(middle)}, 98 % from {format_number(low)} to {format_number(high)}, "
        f"all from {format_number(numbers.min())} to {format_number(numbers.max())}"
    )
    if numbers.max() > edges[-1]:
        told += "; the last bar also holds what is above it"
    with drawing():
        figure = pixel_figure(WIDTH, HEIGHT)
        right = _RIGHT + text_width(unit)
        width, height = WIDTH - _LEFT - right, HEIGHT - _TOP - _BOTTOM
        place = (_LEFT / WIDTH, _BOTTOM / HEIGHT, width / WIDTH, height / HEIGHT)
        axes = figure.add_axes(place)
        widths = np.diff(edges)
        axes.bar(edges[:-1] + 0.05 * widths, counts, 0.9 * widths, align="edge", color=SERIES[0])
        scale_axes(axes, unit, percent=False, log=False)
        axes.set_ylim(bottom=0)
        svg = inline_svg(figure, f"{title}: {told}.")
    notes = [element("span", text) for text in (told, note) if text]
    return element("figure", caption, svg, element("p", *notes, class_="notes"), class_="plot")


def _edges(numbers: Float[np.ndarray, " n"]) -> Float[np.ndarray, " edges"]:
    low, high = float(numbers.min()), float(np.quantile(numbers, 0.99))
    if (numbers == np.rint(numbers)).all():
        step = max(1, int(np.ceil((high - low + 1) / BARS)))
        return np.arange(low, max(high, low) + 1 + step, step) - 0.5
    return np.linspace(low, max(high, low + 1e-9), BARS + 1)
