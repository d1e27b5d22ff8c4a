"""Matrices as pictures, such as the similarities of images and texts.

Knows: colour scales that work on light and dark ground, when there is room for names. Must not
know: how a similarity or a prediction was computed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from bifocal.report.formats import format_number, format_percent, tick_texts
from bifocal.report.markup import Html, element, one_line
from bifocal.report.pictures import thumbnail
from bifocal.report.theme import INK, MUTED, PRINTED, drawing, inline_svg, pixel_figure

# With more rows or columns than this their names would touch; pointing still shows them.
NAMED = 20
_NAME_LENGTH = 18
_WIDTH, _MARGIN, _BAR = 520.0, 26.0, 84.0
# Pictures smaller than this are specks.
_THUMBNAIL = 20.0
_POINTED_CELLS = 10_000


@dataclass(frozen=True)
class HeatMap:
    """What one matrix picture shows.

    Args:
        title: What the values are.
        values: The matrix; cells that are not finite stay empty.
        rows: What a row is, such as "image".
        columns: What a column is, such as "text".
        row_names: One a row, written beside it up to 20 rows, and shown by pointing.
        column_names: Likewise for columns.
        thumbnails: One uint8 "height width 3" picture a row, instead of written names.
        scale: `sequential` for any values, `diverging` around zero, `share` for fractions in 0…1
            (the ground to blue, by the square root; shown as percentages).
        note: One sentence under the title.
    """

    title: str
    values: np.ndarray
    rows: str = "row"
    columns: str = "column"
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    thumbnails: Sequence[np.ndarray] = ()
    scale: Literal["sequential", "diverging", "share"] = "sequential"
    note: str = ""


def heat_map(matrix: HeatMap) -> Html:
    """Return the matrix as a captioned figure with a colour bar, cells square."""
    caption = element(
        "figcaption",
        element("b", matrix.title),
        element("small", matrix.note) if matrix.note else "",
    )
    values = np.asarray(matrix.values, dtype=np.float64)
    assert values.ndim == 2, f"a matrix has two axes, got {values.shape}"
    if not np.isfinite(values).any():
        return element("figure", caption, element("p", "No data.", class_="empty"))
    height, width = values.shape
    low, high = _limits(matrix, values)
    left, bottom = _margins(matrix, height, width)
    cell = min((_WIDTH - left - _BAR) / width, 0.9 * _WIDTH / height)
    if len(matrix.thumbnails):
        cell = max((_WIDTH - left - _BAR) / (width + 1), _THUMBNAIL)
        left += cell
    size = (left + cell * width + _BAR, bottom + cell * height + _MARGIN)
    box = (left, _MARGIN, left + cell * width, _MARGIN + cell * height)
    # A larger drawing is shrunk more on a small screen, so its text starts larger.
    with drawing(), matplotlib.rc_context({"font.size": 12 * max(size[0] / _WIDTH, 1.0)}):
        figure = pixel_figure(*size)

        def place(x0: float, x1: float) -> Axes:
            share = (x0 / size[0], bottom / size[1], (x1 - x0) / size[0], cell * height / size[1])
            return figure.add_axes(share)

        axes = place(box[0], box[2])
        axes.imshow(_coloured(values, low, high, matrix.scale), interpolation="none", aspect="auto")
        _name_axes(axes, matrix)
        if matrix.scale == "share" and max(height, width) <= 12:
            _write_cells(axes, values, high)
        if len(matrix.thumbnails):
            _draw_strip(place(left - cell - 4, left - 4), matrix.thumbnails, cell)
        _draw_bar(place(box[2] + 18, box[2] + 30), low, high, matrix.scale)
        svg = inline_svg(figure, _description(matrix, values))
    pointer = _pointer_data(matrix, values, box) if values.size <= _POINTED_CELLS else None
    style = f"--widest:{1.2 * size[0]:.0f}px"
    return element("figure", caption, svg, class_="heat", data_heat=pointer, style=style)


def _limits(matrix: HeatMap, values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if matrix.scale == "share":
        return 0.0, max(float(finite.max()), 0.01)
    if matrix.scale == "diverging":
        reach = float(np.abs(finite).max()) or 1.0
        return -reach, reach
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _coloured(values: np.ndarray, low: float, high: float, scale: str) -> np.ndarray:
    """Return "height width 4" colours; `share` and `diverging` fade into the page's ground."""
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    if scale == "sequential":
        pixels = matplotlib.colormaps["viridis"](np.where(np.isfinite(share), share, 0.0))
        pixels[..., 3] = np.isfinite(share)
        return pixels
    strength = np.asarray(_strength(share)) if scale == "share" else np.abs(2 * share - 1)
    above = np.array(to_rgb(PRINTED[0] if scale == "share" else PRINTED[1]))
    colour = np.where((share >= 0.5)[..., None], above, np.array(to_rgb(PRINTED[0])))
    # Empty cells and zeros alike show the ground.
    return np.concatenate([colour, np.nan_to_num(strength)[..., None]], axis=-1)


def _strength(share: np.ndarray | float) -> np.ndarray | float:
    # Confusions are rare: without the root all but the diagonal would look empty.
    return np.sqrt(share)


def _names_fit(names: Sequence[str]) -> bool:
    return 0 < len(names) <= NAMED


def _longest(names: Sequence[str]) -> float:
    return 6.8 * max(len(one_line(name, _NAME_LENGTH)) for name in names)


def _margins(matrix: HeatMap, height: int, width: int) -> tuple[float, float]:
    left = _longest(matrix.row_names) + 12 if _names_fit(matrix.row_names) else _MARGIN
    if len(matrix.thumbnails):
        left = 4.0
    bottom = _longest(matrix.column_names) + 14 if _names_fit(matrix.column_names) else _MARGIN
    assert not matrix.row_names or len(matrix.row_names) == height, "one name a row"
    assert not matrix.column_names or len(matrix.column_names) == width, "one name a column"
    assert not len(matrix.thumbnails) or len(matrix.thumbnails) == height, "one thumbnail a row"
    return left, bottom


def _name_axes(axes: Axes, matrix: HeatMap) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    rows, columns = one_line(matrix.rows, 24), one_line(matrix.columns, 24)
    name = f"↓ {rows}   → {columns}"
    axes.set_title(name, loc="left", fontsize="medium", pad=7, color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    if _names_fit(matrix.column_names):
        texts = [one_line(name, _NAME_LENGTH) for name in matrix.column_names]
        axes.set_xticks(range(len(texts)), texts, rotation=90)
    if _names_fit(matrix.row_names) and not len(matrix.thumbnails):
        texts = [one_line(name, _NAME_LENGTH) for name in matrix.row_names]
        axes.set_yticks(range(len(texts)), texts)
    axes.tick_params(length=0)


def _write_cells(axes: Axes, values: np.ndarray, high: float) -> None:
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value) and value >= 0.005:
            # On the deep blue of a high share only white is legible, in light and dark mode.
            colour = "white" if _strength(value / high) > 0.7 else INK
            axes.text(j, i, f"{100 * value:.0f}", color=colour, ha="center", va="center_baseline")


def _draw_strip(axes: Axes, images: Sequence[np.ndarray], cell: float) -> None:
    side = min(round(2 * cell), 160)
    axes.imshow(np.concatenate([thumbnail(image, side) for image in images]), aspect="auto")
    axes.set_axis_off()


def _draw_bar(axes: Axes, low: float, high: float, scale: str) -> None:
    ramp = np.linspace(low, high, 256)[:, None]
    pixels = _coloured(ramp, low, high, scale)
    axes.imshow(
        pixels, origin="lower", aspect="auto", extent=(0, 1, low, high), interpolation="none"
    )
    ticks = [
        tick
        for tick in MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)
        if low <= tick <= high
    ]
    axes.yaxis.tick_right()
    axes.set_yticks(ticks, tick_texts(ticks, percent=scale == "share"))
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _description(matrix: HeatMap, values: np.ndarray) -> str:
    height, width = values.shape
    text = f"{matrix.title}: {height} {matrix.rows} rows by {width} {matrix.columns} columns"
    if height != width or height < 2:
        return text + "."
    diagonal = np.nanmean(np.diag(values)) if np.isfinite(np.diag(values)).any() else np.nan
    others = values[~np.eye(height, dtype=bool)]
    rest = np.nanmean(others) if np.isfinite(others).any() else np.nan
    show = format_percent if matrix.scale == "share" else format_number
    return f"{text}; the diagonal averages {show(float(diagonal))}, the rest {show(float(rest))}."


def _pointer_data(matrix: HeatMap, values: np.ndarray, box: Sequence[float]) -> str:
    """Return what the page's script needs to name the cell under the pointer, as JSON."""
    cells = [[float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in values]
    content = {
        "box": [round(float(edge), 1) for edge in box],
        "rows": matrix.rows,
        "columns": matrix.columns,
        "rowNames": [one_line(name, 120) for name in matrix.row_names],
        "columnNames": [one_line(name, 120) for name in matrix.column_names],
        "percent": matrix.scale == "share",
        "values": cells,
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
