"""The page of a search: its best trials, how it went, and what each setting did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bifocal import __version__
from bifocal.report.formats import format_number, format_percent
from bifocal.report.page import Card, Page, Section
from bifocal.report.parallel import Axis, parallel_plot
from bifocal.report.scatter import Dot, ScatterPlot, scatter_plot
from bifocal.report.tables import Column, Table, table_html
from bifocal.tune.space import Choices, Range

if TYPE_CHECKING:
    from bifocal.tune.search import Search
    from bifocal.tune.study import Tuning
    from bifocal.tune.trial import Outcome

KINDS = {"complete": "", "pruned": "partial"}
"""How the dot of a trial in that state is drawn."""


def tune_page(tuning: Tuning) -> Page:
    """Return the page of a study as it stands."""
    search, outcomes, best = tuning.search, tuning.outcomes(), tuning.best()
    reached = [one for one in outcomes if one.value is not None]
    keys = list(dict.fromkeys(key for one in outcomes for key in one.settings))
    sections = []
    if reached:
        sections.append(Section("Search", _search(tuning, reached, best), columns=2))
        # The last value of a pruned trial is not what the others are compared by.
        whole = [one for one in reached if one.state == "complete"] or reached
        axes = [_axis(key, search, whole) for key in keys]
        last = Axis("reached", [one.value for one in whole], percent=search.higher)
        title = f"One line a trial, through its settings to the {search.metric} it reached"
        sections.append(
            Section("Trials side by side", [parallel_plot(title, [*axes, last], search.higher)])
        )
        plots = [scatter_plot(_against(key, search, reached, best)) for key in keys]
        sections.append(Section("Each setting alone", plots, columns=2))
    sections.append(Section("Trials", [table_html(_table(search, outcomes, keys))]))
    return Page(
        title=f"bifocal tune {tuning.out.name}",
        subtitle=f"{search.sampler} search over {len(keys)} settings for the "
        f"{'highest' if search.higher else 'lowest'} {search.metric}, "
        f"{datetime.now():%d %B %Y %H:%M}",
        cards=_cards(search, outcomes, best),
        sections=sections,
        warnings=[f"Trial {one.number} failed: {one.message}" for one in outcomes if one.message],
        footer=f"bifocal {__version__}",
    )


def _cards(search: Search, outcomes: Sequence[Outcome], best: Outcome | None) -> list[Card]:
    cards = []
    if best is not None and best.value is not None:
        shown = format_percent(best.value) if search.higher else format_number(best.value)
        cards.append(Card(search.metric, shown, f"trial {best.number}"))
    for state in ("complete", "pruned", "failed", "running"):
        count = sum(one.state == state for one in outcomes)
        if count:
            cards.append(Card(state, str(count), f"of {search.trials} trials"))
    return cards


def _search(tuning: Tuning, reached: Sequence[Outcome], best: Outcome | None) -> list[str]:
    search = tuning.search
    complete = [one for one in reached if one.state == "complete"]
    better = max if search.higher else min
    front: list[float] = []
    for one in complete:
        assert one.value is not None
        front.append(better([*front[-1:], one.value]))
    history = ScatterPlot(
        title=f"{search.metric} of each trial",
        dots=[_dot(one.number, one, best) for one in reached],
        x_label="trial",
        percent=search.higher,
        line=([one.number for one in complete], front) if len(complete) > 1 else None,
        notes=["line: the best so far", *_notes(reached)],
    )
    shares = tuning.importance()
    if not shares:
        return [scatter_plot(history)]
    table = Table(
        [{"setting": key, "share": share} for key, share in shares.items()],
        ["setting", Column("share", "importance", bar=True)],
        "How much each setting decides whether a trial is among the best quarter of the complete "
        "ones (PED-ANOVA, Watanabe et al. 2023); rough for few trials.",
    )
    return [scatter_plot(history), table_html(table)]


def _against(
    key: str, search: Search, reached: Sequence[Outcome], best: Outcome | None
) -> ScatterPlot:
    with_it = [one for one in reached if key in one.settings]
    values = [one.settings[key] for one in with_it]
    axis = Axis(key, values)
    dots = [_dot(one.settings[key], one, best) for one in with_it]
    # Choices are evenly spaced, numbers too: nobody said what lies between them.
    dimension = search.space.dimensions.get(key)
    names: list[Any] = []
    if isinstance(dimension, Choices):
        names = list(dimension.choices)
    elif not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        names = axis.names()
    return ScatterPlot(
        title=key,
        dots=dots,
        log=_log(key, search),
        names=names,
        percent=search.higher,
        notes=_notes(reached),
    )


def _axis(key: str, search: Search, reached: Sequence[Outcome]) -> Axis:
    values = [one.settings.get(key) for one in reached]
    return Axis(key.removeprefix("optim."), values, log=_log(key, search))


def _log(key: str, search: Search) -> bool:
    dimension = search.space.dimensions.get(key)
    return isinstance(dimension, Range) and dimension.log


def _dot(x: Any, one: Outcome, best: Outcome | None) -> Dot:
    assert one.value is not None
    is_best = best is not None and one.number == best.number
    return Dot(x, one.value, "best" if is_best else KINDS[one.state])


def _notes(reached: Sequence[Outcome]) -> list[str]:
    pruned = any(one.state == "pruned" for one in reached)
    return ["large dot: the best trial", *(["hollow: pruned, last value"] if pruned else [])]


def _table(search: Search, outcomes: Sequence[Outcome], keys: Sequence[str]) -> Table:
    sign = -1 if search.higher else 1
    order = {"complete": 0, "pruned": 1, "running": 2, "failed": 3}
    lines: list[Mapping[str, Any]] = [
        {
            "trial": one.number,
            "state": one.state,
            "value": one.value,
            "seconds": one.seconds and round(one.seconds),
            **one.settings,
        }
        for one in sorted(outcomes, key=lambda one: (order[one.state], sign * (one.value or 0.0)))
    ]
    value = Column("value", search.metric, format=format_percent if search.higher else None)
    columns = [Column("trial"), value, Column("state"), *map(Column, keys), Column("seconds")]
    return Table(lines, columns, "Complete trials first, the best at the top.")
