"""Is one model better than another on the same examples, or only luckier: two records compared.

Examples are paired by the picture that they belong to, and both models' outcomes are drawn
together (`statistics.paired_difference`), which finds differences much smaller than two separate
intervals can. Figures are only compared where both were measured on the same data by the same
protocol. Each p-value speaks for its own metric: of twenty metrics, one falls below 0.05 by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.explain import Difference, differences, shorten
from bifocal.evaluate.mcnemar import McNemar, mcnemar
from bifocal.evaluate.metrics import mean_over_classes
from bifocal.evaluate.record import CLASS, Record
from bifocal.evaluate.statistics import STANDARD, Bootstrap, Paired, paired_difference

SAME = ("task", "protocol", "data.identity", "data.samples", "data.split")
"""What two records must have in common."""
SHOWN = 16
"""Characters of a hash in a message."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of two models on the examples that both have read; `paired` is first - second."""

    metric: str
    first: float
    second: float
    paired: Paired
    exact: McNemar | None
    """Where outcomes are right or wrong and every picture has one."""
    examples: int
    left_out: int
    """Examples that only one of the records has."""

    @property
    def p_value(self) -> float:
        """Of the exact test where there is one: where few examples differ, a bootstrap's tail,
        which is made of the same few, is too short."""
        return self.paired.p_value if self.exact is None else self.exact.p_value


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two records, metric by metric."""

    metrics: tuple[MetricComparison, ...]
    unpaired: tuple[str, ...]
    """Metrics without outcomes in both records."""
    settings: tuple[Difference, ...]
    """Settings in which the records differ beside their models."""


def compare(first: Record, second: Record, plan: Bootstrap = STANDARD) -> Comparison:
    """Return the differences between two models' figures, with intervals and p-values.

    Raises:
        ConfigError: task, protocol or data differ, or no metric has outcomes in both.
        DataError: the records have no example in common, or other labels for the same pictures.
    """
    found = differences(first, second)
    barred = [one for one in found if one.name in SAME]
    if barred:
        raise ConfigError(
            "these results cannot be compared, since they differ in "
            + "; ".join(
                f"{one.name} ({shorten(one.first, one.second, SHOWN)} and "
                f"{shorten(one.second, one.first, SHOWN)})"
                for one in barred
            )
            + ": measure both models on the same data by the same protocol"
        )
    both = [name for name in first.metrics if name in first.outcomes and name in second.outcomes]
    if not both:
        raise ConfigError(
            "the records have no metric with outcomes in common: the first has "
            f"{', '.join(first.metrics) or 'none'}, the second "
            f"{', '.join(second.metrics) or 'none'}"
        )
    named = dict.fromkeys([*first.metrics, *second.metrics])
    return Comparison(
        metrics=tuple(_compare(first, second, name, plan) for name in both),
        unpaired=tuple(name for name in named if name not in both),
        settings=tuple(one for one in found if not one.name.startswith("model.")),
    )


def _compare(first: Record, second: Record, metric: str, plan: Bootstrap) -> MetricComparison:
    rows = _rows(first, second, metric)
    a, b = (r.outcomes[metric][n] for r, n in zip((first, second), rows, strict=True))
    units, classes = first.units(metric), first.outcomes.get(f"{metric}.{CLASS}")
    other = second.outcomes.get(f"{metric}.{CLASS}")
    if classes is not None and other is not None:
        relabelled = int((classes[rows[0]] != other[rows[1]]).sum())
        if relabelled:
            raise DataError(
                f"{relabelled:,} of {len(rows[0]):,} pictures have other labels in the second "
                "record: the data were changed between the two; measure both models again"
            )
    groups = None if units is None else units[rows[0]]
    classes = None if classes is None else classes[rows[0]]
    if groups is not None and len(groups.unique()) == len(groups):
        groups = None
    independent = groups is None and classes is None
    is_right = a.dtype == b.dtype == torch.bool
    longest = max(len(record.outcomes[metric]) for record in (first, second))
    return MetricComparison(
        metric=metric,
        first=_mean(a, classes),
        second=_mean(b, classes),
        paired=paired_difference(a, b, groups=groups, classes=classes, plan=plan),
        exact=mcnemar(a, b) if independent and is_right else None,
        examples=len(a),
        left_out=longest - len(a),
    )


def _rows(first: Record, second: Record, metric: str) -> tuple[Tensor, Tensor]:
    """Return, for every example that both have, its row in each."""
    one, two = first.units(metric), second.units(metric)
    if one is None or two is None:
        lengths = [len(record.outcomes[metric]) for record in (first, second)]
        if lengths[0] != lengths[1]:
            raise DataError(
                f"'{metric}' has {lengths[0]} examples in the first record, {lengths[1]} in the "
                "second, and they do not say which pictures they are: measure again"
            )
        every = torch.arange(lengths[0])
        return every, every
    keys = [_keys(one), _keys(two)]
    shared, where = torch.cat(keys).unique(dim=0, return_inverse=True)
    places = torch.full((2, len(shared)), -1, dtype=torch.long)
    for n, part in enumerate(where.split([len(key) for key in keys])):
        places[n, part] = torch.arange(len(part))
    common = (places >= 0).all(dim=0)
    if not bool(common.any()):
        raise DataError(f"no example of '{metric}' is in both records: there is nothing to pair")
    rows = places[:, common]
    rows = rows[:, rows[0].argsort()]
    return rows[0], rows[1]


def _keys(units: Int[Tensor, " examples"]) -> Int[Tensor, "examples 2"]:
    """Return each example's picture, and its number among the picture's examples."""
    order = units.argsort(stable=True)
    _, counts = units[order].unique_consecutive(return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    number = torch.empty_like(units)
    number[order] = torch.arange(len(units)) - first
    return torch.stack([units, number], dim=1)


def _mean(values: Tensor, classes: Tensor | None) -> float:
    return values.double().mean().item() if classes is None else mean_over_classes(values, classes)
