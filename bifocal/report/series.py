"""One measured quantity over a run, made ready to draw.

Knows: that logs have gaps, repeats (a resumed run logs some steps twice) and values that are not
finite. Must not know: matplotlib.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

# Beyond this many points a line carries no more detail than the screen shows.
DRAWN_POINTS = 1200


@dataclass(frozen=True)
class Series:
    """A line of a `LinePlot`.

    Args:
        label: Name, written at the end of the line.
        x: Positions (steps), in any order; of a repeated position the last value counts.
        y: Values, as many; those that are not finite are marked, not drawn.
        smooth: Whether to draw a moving average, and the values themselves faintly behind it.
        best: Which extreme to mark, if any.
        chance: The level that guessing reaches, drawn dashed.
    """

    label: str
    x: Sequence[Any] | np.ndarray
    y: Sequence[Any] | np.ndarray
    smooth: bool = False
    best: Literal["min", "max"] | None = None
    chance: float | int | None = None

    @classmethod
    def of(
        cls, rows: Iterable[Mapping[str, Any]], y: str, x: str = "step", **options: Any
    ) -> "Series":
        """Take a series from the rows of a log, skipping rows that lack `x` or `y`.

        Args:
            rows: For example one dictionary a line of a JSON-lines log.
            y: Column of the values; also the label, unless `options` has one.
            x: Column of the positions.
            **options: The other fields of `Series`.
        """
        present = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
        label = options.pop("label", y)
        return cls(label, [row[x] for row in present], [row[y] for row in present], **options)

    def tidy(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions, ascending and each once, and values (NaN where not finite)."""
        x = np.asarray(self.x, dtype=np.float64).reshape(-1)
        y = np.asarray(self.y, dtype=np.float64).reshape(-1)
        assert x.shape == y.shape, f"'{self.label}': {x.size} positions, {y.size} values"
        placed = np.isfinite(x)
        x, y = x[placed], np.where(np.isfinite(y), y, np.nan)[placed]
        # `unique` keeps the first of equals; reversed, that is the value logged last.
        x, kept = np.unique(x[::-1], return_index=True)
        return x, y[::-1][kept]

    def best_point(self) -> tuple[float, float] | None:
        """Return position and value of the extreme to mark; of equals, the first."""
        x, y = self.tidy()
        if self.best is None or np.isnan(y).all():
            return None
        at = int(np.nanargmin(y) if self.best == "min" else np.nanargmax(y))
        return float(x[at]), float(y[at])


def smoothed(y: np.ndarray, window: int) -> np.ndarray:
    """Return a centred moving average, taken twice so that its weights fall off evenly.

    NaN in `y` is left out of the averages of its neighbours and stays NaN itself. At the ends the
    window is cut, not mirrored.
    """
    half = max(window // 2, 0)
    finite = np.isfinite(y)
    low = np.clip(np.arange(y.size) - half, 0, None)
    high = np.clip(np.arange(y.size) + half + 1, None, y.size)
    counts = np.concatenate([[0], np.cumsum(finite)])
    averaged = np.where(finite, y, 0.0)
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(averaged)])
        with np.errstate(invalid="ignore", divide="ignore"):
            averaged = (sums[high] - sums[low]) / (counts[high] - counts[low])
        averaged = np.where(finite, averaged, 0.0)
    return np.where(finite, averaged, np.nan)


def with_gaps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Break the line (by a NaN) where positions leap, so that a missing log is not bridged."""
    if x.size < 4:
        return x, y
    steps = np.diff(x)
    # Evaluations are rarer than steps and may be uneven; eight times the usual is a hole.
    after = np.flatnonzero(steps > 8 * np.median(steps)) + 1
    middle = (x[after - 1] + x[after]) / 2
    return np.insert(x, after, middle), np.insert(y, after, np.nan)


def thinned(
    x: np.ndarray, y: np.ndarray, points: int = DRAWN_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Keep about `points` points: of each run of neighbours the lowest and the highest.

    Taking every n-th point would hide exactly the spikes that one looks for.
    """
    if x.size <= points:
        return x, y
    kept = {0, x.size - 1}
    for part in np.array_split(np.arange(x.size), max(points // 2, 1)):
        values = y[part]
        holes = part[np.isnan(values)]
        kept.update(int(i) for i in holes[:1])
        if holes.size < part.size:
            kept.update((int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])))
    order = np.array(sorted(kept))
    return x[order], y[order]


def lonely(y: np.ndarray) -> np.ndarray:
    """Return which values have no neighbour to draw a line to, and so need a marker."""
    finite = np.isfinite(y)
    before = np.concatenate([[False], finite[:-1]])
    behind = np.concatenate([finite[1:], [False]])
    return finite & ~before & ~behind
