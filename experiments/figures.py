"""Figures of experiments: what the seeds gave, their mean, and how far it may be from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bifocal.report.theme import PRINTED as COLOURS
from experiments.claim import mean_of

Curve = tuple[Sequence[float], Sequence[float]]
MARKERS = "osD^vP"
DODGE = 0.05
"""How far arms stand beside each other: quarters of the axis, or doublings of it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One of several drawings side by side.

    Attributes:
        title: above it.
        label: what the values are, with their unit.
        values: of dots: one a seed of each arm.
        curves: of lines: one a seed of each arm; they share their x.
        ticks: names of the x values, where they are not numbers along a line.
    """

    title: str
    label: str
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)
    ticks: Mapping[int, str] | None = None


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


def draw_dots(path: Path, panels: Sequence[Panel]) -> None:
    """Draw every arm as a row: its seeds as dots, above them their mean with its interval.

    Hairlines join the runs of a seed, whose differences the claim is about.
    """
    rows = len(panels[0].values)
    figure, all_axes = _panels(panels, height=1.3 + 0.5 * rows)
    for axes, panel in zip(all_axes, panels, strict=True):
        below = np.arange(rows) + 0.14
        by_seed = np.array(list(panel.values.values())).T
        axes.plot(by_seed.T, below, color="#9ca3af", linewidth=0.6, zorder=1)
        for place, (values, colour) in enumerate(zip(by_seed.T, COLOURS, strict=False)):
            mean = mean_of(values.tolist())
            axes.plot(values, np.full(len(values), below[place]), "o", color=colour, alpha=0.6)
            axes.errorbar(
                mean.value,
                place - 0.14,
                xerr=mean.reach,
                fmt="|",
                color=colour,
                markersize=13,
                markeredgewidth=2.2,
                capsize=4,
            )
        axes.set_yticks(range(rows), list(panel.values))
        axes.set_ylim(rows - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelleft=axes is all_axes[0])
        axes.set_xlabel(panel.label)
        axes.grid(axis="x", alpha=0.25)
    _save(figure, path, "bars: 95 % interval of the mean over seeds; dots: seeds, joined by lines")


def draw_curves(path: Path, panels: Sequence[Panel], x_label: str, log: bool = False) -> None:
    """Draw every arm as a line through the means over its seeds, with their intervals.

    Args:
        path: of the PNG.
        panels: of curves.
        x_label: what runs along, with its unit.
        log: whether x doubles from tick to tick.
    """
    figure, all_axes = _panels(panels, height=3.9)
    for axes, panel in zip(all_axes, panels, strict=True):
        for number, (name, curves) in enumerate(panel.curves.items()):
            x = np.asarray(curves[0][0], dtype=float)
            y = np.array([values for _, values in curves])
            means = [mean_of(column.tolist()) for column in y.T]
            reach = [mean.reach for mean in means]
            centre = [mean.value for mean in means]
            aside = DODGE * (number - (len(panel.curves) - 1) / 2)  # bars do not hide each other
            axes.errorbar(
                x * 2**aside if log else x + aside * (x.max() - x.min()) / 4,
                centre,
                reach,
                label=name,
                color=COLOURS[number],
                marker=MARKERS[number],
                markersize=4.5,
                capsize=2.5,
                elinewidth=1.0,
            )
        if log:
            axes.set_xscale("log", base=2)
        if panel.ticks:
            axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
            axes.minorticks_off()
        axes.set_xlabel(x_label)
        axes.set_ylabel(panel.label)
        axes.grid(axis="y", alpha=0.25)
    handles, names = all_axes[0].get_legend_handles_labels()
    columns = 2 if len(names) > 3 else len(names)
    figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    _save(figure, path, "bars: 95 % interval of the mean over seeds")


def _panels(panels: Sequence[Panel], height: float) -> tuple[Figure, list[Axes]]:
    figure, grid = plt.subplots(
        1, len(panels), figsize=(6.4, height), dpi=150, layout="constrained", squeeze=False
    )
    for axes, panel in zip(grid[0], panels, strict=True):
        axes.set_title(panel.title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(grid[0])


def _save(figure: Figure, path: Path, legend: str) -> None:
    figure.supxlabel(legend, fontsize=8.5, color="#4b5563")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
