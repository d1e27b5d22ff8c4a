"""Predictions as one PNG, for a README or a slide.

Knows: how to lay out pictures and bars on white, and how to keep the file small. Must not know:
HTML, which shows the same better (see gallery).
"""

import io
import secrets
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from bifocal.report.formats import format_percent
from bifocal.report.gallery import Prediction
from bifocal.report.markup import one_line
from bifocal.report.pictures import thumbnail
from bifocal.report.theme import PRINTED, drawing, pixel_figure

_INK, _MUTED, _TRACK = "#1b2127", "#68727d", "#e9edf1"
_RIGHT, _WRONG = PRINTED[2], PRINTED[1]
_GAP, _EDGE = 28.0, 20.0


def picture_grid(
    items: Sequence[Prediction],
    path: Path | str,
    *,
    columns: int = 2,
    labels: int = 4,
    width: int = 1200,
    max_bytes: int = 400_000,
) -> Path:
    """Save predictions as a PNG: each picture with its likeliest labels as bars, the truth ticked.

    Args:
        items: What to show, row by row.
        path: Of the `.png` file; its folder is made if need be.
        columns: Predictions side by side.
        labels: Bars a picture, at most.
        width: Of the whole, in pixels; the height follows.
        max_bytes: The file's size to stay under. A larger one is saved with fewer colours: first
            256, at last 32.

    Returns:
        The path written.
    """
    assert items, "a grid needs at least one prediction"
    path = Path(path)
    cell = (width - 2 * _EDGE - (columns - 1) * _GAP) / columns
    side = max(int(min(0.28 * cell, 38.0 * labels)), 60)
    rows = -(-len(items) // columns)
    height = 2 * _EDGE + rows * side + (rows - 1) * _GAP
    with drawing():
        figure = pixel_figure(width, height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for i, item in enumerate(items):
            row, column = divmod(i, columns)
            corner = (_EDGE + column * (cell + _GAP), _EDGE + row * (side + _GAP))
            _draw(axes, item, corner, (cell, side), labels)
        content = _png(figure, max_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _draw(
    axes: Axes, item: Prediction, corner: tuple[float, float], size: tuple[float, int], labels: int
) -> None:
    """Draw one prediction: the picture left, its bars right."""
    (left, top), (cell, side) = corner, size
    shown = thumbnail(item.image, side)
    # Whole pixels, so that the picture is copied and not resampled.
    x0, y0 = round(left), round(top)
    axes.imshow(shown, extent=(x0, x0 + side, y0 + side, y0), interpolation="none", aspect="auto")
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    start, end = x0 + side + 18.0, left + cell
    listed = list(item.labels[:labels])
    missed = item.truth is not None and all(label != item.truth for label, _ in listed)
    if missed:
        listed = listed[: labels - 1]
    pitch = side / labels
    for k, (label, probability) in enumerate(listed):
        right = label == item.truth
        best_is_wrong = k == 0 and item.correct is False
        colour = _RIGHT if right else _WRONG if best_is_wrong else "#8fa3b5"
        base = y0 + k * pitch + pitch / 2
        _bar_row(axes, (start, end, base), one_line(label, 34), float(probability), colour)
        if right:
            _tick(axes, end, base)
    if missed:
        base = y0 + side - pitch / 2
        text = one_line(f"truth: {item.truth}", 40)
        axes.text(start, base + 4, text, color=_RIGHT, fontsize=14, weight="bold", va="center")


def _bar_row(
    axes: Axes, place: tuple[float, float, float], label: str, probability: float, colour: str
) -> None:
    start, end, base = place
    inner = end - 26
    strong = colour == _RIGHT
    weight = "bold" if strong else "normal"
    ink = colour if strong else _INK
    axes.text(start, base - 2, label, color=ink, fontsize=14, weight=weight, va="bottom")
    text = format_percent(probability)
    axes.text(inner, base - 2, text, color=_MUTED, fontsize=13, ha="right", va="bottom")
    _pill(axes, start, base + 3, inner - start, _TRACK)
    share = min(max(probability, 0.0), 1.0)
    if share * (inner - start) >= 1:
        _pill(axes, start, base + 3, max(share * (inner - start), 6), colour)


def _pill(axes: Axes, x: float, y: float, width: float, colour: str) -> None:
    shape = f"round,pad=0,rounding_size={min(3, width / 2)}"
    axes.add_patch(
        FancyBboxPatch((x, y), width, 6, boxstyle=shape, facecolor=colour, edgecolor="none")
    )


def _tick(axes: Axes, end: float, base: float) -> None:
    xs, ys = (end - 17, end - 12, end - 3), (base + 1, base + 6, base - 6)
    axes.plot(xs, ys, color=_RIGHT, linewidth=2.8)


def _png(figure: Figure, max_bytes: int) -> bytes:
    """Return the figure as a PNG of at most `max_bytes`, as long as 32 colours suffice for it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", facecolor="white")
    width, height = figure.canvas.get_width_height()
    drawn = Image.frombytes("RGBA", (width, height), buffer.getvalue()).convert("RGB")
    content = _encoded(drawn)
    for colours in (256, 128, 64, 32):
        if len(content) <= max_bytes:
            break
        palette = drawn.quantize(colours, method=Image.Quantize.MEDIANCUT)
        # Given a palette, Pillow dithers, so that skies do not fall into bands.
        content = _encoded(drawn.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    return content


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
