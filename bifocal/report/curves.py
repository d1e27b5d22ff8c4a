"""The usual plots of a training run.

Knows: which quantities of a log are read together, and by which names they are usual. Must not
know: how they were measured; a quantity that the log lacks is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bifocal.report.markup import Html
from bifocal.report.plots import LinePlot, Reference, line_plot
from bifocal.report.series import Series


@dataclass(frozen=True)
class Line:
    """One column of the log as a line of a `Curve`; the fields are those of `Series`."""

    column: str
    label: str
    smooth: bool = False
    best: Literal["min", "max"] | None = None


@dataclass(frozen=True)
class Curve:
    """Columns of a log that share one plot.

    Args:
        title: Of the plot.
        lines: Columns, drawn in this order.
        unit: Shown after the title.
        percent: Whether values are fractions in 0…1.
        log: Whether the vertical scale is logarithmic.
        references: Levels to compare with.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    percent: bool = False
    log: bool = False
    references: Sequence[Reference] = ()


def _recall(direction: str) -> tuple[Line, ...]:
    ranks = (1, 5, 10)
    return tuple(
        Line(f"{direction}_recall@{k}", f"R@{k}", best="max" if k == 1 else None) for k in ranks
    )


TRAINING_CURVES = (
    Curve(
        "Loss",
        (
            Line("loss", "training", smooth=True),
            Line("validation_loss", "validation", best="min"),
        ),
        unit="contrastive, nats",
    ),
    Curve("Image → text recall", _recall("image_to_text"), unit="held-out", percent=True),
    Curve("Text → image recall", _recall("text_to_image"), unit="held-out", percent=True),
    Curve(
        "Zero-shot accuracy", (Line("zero_shot_accuracy", "accuracy", best="max"),), percent=True
    ),
    Curve(
        "Logit scale",
        (Line("logit_scale", "scale"),),
        unit="1 / temperature",
        references=(Reference(100, "limit 100"),),
        log=True,
    ),
    Curve("Learning rate", (Line("lr", "learning rate"),)),
    Curve("Gradient norm", (Line("grad_norm", "norm", smooth=True),), unit="before clipping"),
    Curve("Throughput", (Line("pairs_per_second", "throughput", smooth=True),), unit="pairs / s"),
)


def training_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    chance: Mapping[str, float | int] | None = None,
    pairs_per_step: float | int | None = None,
    curves: Sequence[Curve] = TRAINING_CURVES,
) -> list[Html]:
    """Return one figure for every curve of which the log has at least one column.

    Args:
        rows: The log, one mapping a step with the key `step` and whatever was measured then.
        chance: For a column, the level that guessing reaches.
        pairs_per_step: Global batch size; when given, plots also count the pairs seen.
        curves: What to draw.
    """
    chance = chance or {}
    figures = []
    for curve in curves:
        series = []
        for line in curve.lines:
            options = {"label": line.label, "smooth": line.smooth, "best": line.best}
            taken = Series.of(rows, line.column, chance=chance.get(line.column), **options)
            if len(taken.x):
                series.append(taken)
        if not series:
            continue
        plot = LinePlot(
            curve.title,
            series,
            unit=curve.unit,
            references=curve.references,
            percent=curve.percent,
            log=curve.log,
            pairs_per_step=pairs_per_step,
        )
        figures.append(line_plot(plot))
    return figures
