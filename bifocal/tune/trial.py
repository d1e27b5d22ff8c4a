"""One trial: its settings, how it ends, what is known of it afterwards.

Imports Optuna, which is optional; whoever may lack it imports this when it is needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from bifocal.tune.space import Choices, Dimension, Range

State = Literal["complete", "pruned", "failed", "running"]

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a trial.

    Args:
        number: from 0.
        state: it is "running" also while it waits for its killed worker's successor.
        settings: by dotted key.
        value: of the metric; of a pruned trial the last on the way.
        message: why it failed.
        seconds: from its beginning to its end, breaks included.
    """

    number: int
    state: State
    settings: Mapping[str, Any]
    value: float | None
    message: str
    seconds: float | None


class Claimed:
    """A trial that this process runs; ends with `finish`, `prune` or `fail`."""

    def __init__(self, trial: optuna.Trial, settings: Mapping[str, Any], folder: Path) -> None:
        self._trial, self.settings, self.folder = trial, settings, folder
        self.number = trial.number
        self._told = set(frozen_trial(trial.study, self.number).intermediate_values)

    def report(self, pairs: int, value: float) -> bool:
        """Tell an evaluation on the way; return whether the trial is not worth going on with.

        Args:
            pairs: read so far: what trials of different batches are compared at.
            value: of the metric; what a resumed run measures again is not told again.
        """
        if pairs not in self._told:
            self._trial.report(value, pairs)
        return bool(self._trial.should_prune())

    def finish(self, value: float) -> None:
        """Record the trial's figure."""
        self._trial.study.tell(self._trial, value, skip_if_finished=True)

    def prune(self) -> None:
        """Record that the trial was given up; its last figure counts as its value."""
        self._trial.study.tell(self._trial, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, message: str) -> None:
        """Record that the trial could not be run to its end, and why."""
        self._trial.set_user_attr("message", message)
        self._trial.study.tell(self._trial, state=TrialState.FAIL, skip_if_finished=True)


def outcome(trial: FrozenTrial) -> Outcome:
    """Return what a storage knows of a trial."""
    state = _STATES.get(trial.state, "running")
    attrs = trial.user_attrs
    return Outcome(
        number=trial.number,
        state=state,
        settings=json.loads(attrs.get("settings", "{}")),
        value=trial.value if state in ("complete", "pruned") else None,
        message=attrs.get("message", ""),
        seconds=trial.duration.total_seconds() if trial.duration else None,
    )


def frozen_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """Return a trial as the storage has it."""
    return study.get_trials(deepcopy=False)[number]


def suggest(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    """Return a trial's value of a setting: drawn now, or before if it has one."""
    match dimension:
        case Choices():
            return dimension.decoded(trial.suggest_categorical(key, dimension.coded))
        case Range(low=int(low), high=int(high), log=log) if dimension.whole:
            return trial.suggest_int(key, low, high, log=log, step=int(dimension.step or 1))
        case Range(low=low, high=high, log=log, step=step):
            return trial.suggest_float(key, low, high, log=log, step=step)


def age(trial: FrozenTrial) -> float:
    """Return the seconds since a trial was begun."""
    return time.time() - trial.datetime_start.timestamp() if trial.datetime_start else 0.0
