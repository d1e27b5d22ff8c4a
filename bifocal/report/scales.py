"""The axes of a line plot: scales, grid, ticks, and labels at the ends of the lines.

Knows: where text stands so that it never overlaps. Must not know: series, captions or pages.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullLocator

from bifocal.report.formats import tick_texts
from bifocal.report.theme import FONT_SIZE, GRID, MUTED

# Height in data units, text, colour.
Label = tuple[float, str, str]

_LINE_HEIGHT = FONT_SIZE + 3
# Between round numbers a reader can count in the head.
_STEPS = (1, 2, 2.5, 5, 10)


def scale_axes(axes: Axes, x_label: str, *, percent: bool, log: bool) -> None:
    """Set scales, ticks and a quiet horizontal grid.

    Args:
        axes: With its lines already drawn, because the limits follow from them.
        x_label: What positions count.
        percent: Whether values are fractions, to be labelled as percentages from 0 up.
        log: Whether the vertical scale is logarithmic.
    """
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    _name_scale(axes, x_label, 0, -4, "top")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True))
    axes.xaxis.set_major_formatter(_Ticks())
    if log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_formatter(_Ticks(percent, each=log))
    if percent and not log and axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)


def count_pairs(axes: Axes, pairs_per_step: float) -> None:
    """Add a second scale on top that counts image-text pairs instead of steps."""
    functions = (
        lambda step: np.multiply(step, pairs_per_step),
        lambda pairs: np.divide(pairs, pairs_per_step),
    )
    upper = axes.secondary_xaxis("top", functions=functions)
    upper.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True))
    upper.xaxis.set_major_formatter(_Ticks())
    upper.spines["top"].set_color(GRID)
    upper.tick_params(pad=2)
    _name_scale(axes, "pairs", 1, 4, "bottom")


def write_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each label right of the axes, as near to its height as its neighbours allow."""
    if not labels:
        return
    # Limits are lazy; asking for them settles them, and only then do heights mean anything.
    axes.get_ylim()
    # A little inside, so that no label touches what the scales are named.
    low, high = axes.bbox.ymin + 5, axes.bbox.ymax - 4
    heights = axes.transData.transform([(0.0, label[0]) for label in labels])[:, 1]
    heights = spread(np.clip(heights, low, high), _LINE_HEIGHT, low, high)
    for height, (_, text, colour) in zip(heights, labels, strict=True):
        share = (height - axes.bbox.ymin) / axes.bbox.height
        axes.text(1.02, share, text, color=colour, va="center_baseline", transform=axes.transAxes)


def _name_scale(axes: Axes, name: str, height: int, lift: int, align: str) -> None:
    """Write what a horizontal scale counts at the end of its row of ticks."""
    axes.annotate(
        name,
        (1.0, height),
        xytext=(10, lift),
        xycoords="axes fraction",
        textcoords="offset points",
        color=MUTED,
        va=align,
    )


def spread(positions: np.ndarray, gap: float | int, low: float, high: float) -> np.ndarray:
    """Return `positions` in their order but at least `gap` apart, within `low`…`high`.

    More than fit are pushed past `high`, evenly spaced, rather than over each other.
    """
    order = np.argsort(positions, kind="stable")
    moved = np.array(positions, dtype=np.float64)[order]
    for i in range(1, moved.size):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    moved[-1:] = np.minimum(moved[-1:], high)
    for i in range(moved.size - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    moved += max(low - moved[0], 0.0) if moved.size else 0.0
    result = np.empty_like(moved)
    result[order] = moved
    return result


def text_width(text: str) -> float:
    """Return about how many pixels `text` takes; the page's fonts are narrower than assumed."""
    return 0.58 * FONT_SIZE * len(text)


class _Ticks(Formatter):
    """Tick labels by `tick_texts`; on a logarithmic scale each for itself."""

    def __init__(self, percent: bool = False, each: bool = False) -> None:
        self.percent, self.each = percent, each

    def __call__(self, x: float | int, pos: int | None = None) -> str:
        return tick_texts([x], self.percent)[0]

    def format_ticks(self, values: Sequence[float] | np.ndarray) -> list[str]:
        if self.each:
            return [self(value) for value in values]
        return tick_texts(list(values), self.percent)
