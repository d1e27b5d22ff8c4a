"""Figures of experiments: means over seeds as lines, their spread as bands, runs as hairlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

Curve = tuple[Sequence[float], Sequence[float]]
COLOURS = ("#2f6fb2", "#d1662b", "#3a8a5f", "#8a5aa8")


def draw_bands(path: Path, arms: Mapping[str, Sequence[Curve]], x_label: str, y_label: str) -> None:
    """Draw each arm's runs, which share their x, with the mean and the range over them."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    for (name, curves), colour in zip(arms.items(), COLOURS, strict=False):
        x = np.asarray(curves[0][0])
        y = np.array([values for _, values in curves])
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, y.T, color=colour, alpha=0.35, linewidth=0.7)
        axes.plot(x, y.mean(axis=0), color=colour, linewidth=2, label=f"{name} ({len(y)} seeds)")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
