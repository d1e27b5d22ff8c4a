"""Where the settings of a trial come from: its number, and the trials that are finished.

The draws of trial 7 are the same whichever worker makes it, and after any number of restarts: a
sampler that kept its random state would give every worker, and every restart, the same draws again.
Imports Optuna, which is optional; whoever may lack it imports this when it is needed.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Listed(BaseSampler):
    """Gives trial n the n-th row of a list: every combination of a grid, once.

    Optuna's own grid sampler gives a combination to two workers if both are near the end.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: no setting is drawn together with others."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the entry of the row; past the end, of the first, for a trial that is void."""
        row = trial.number if trial.number < len(self._rows) else 0
        return self._rows[row][param_name]


class Numbered(BaseSampler):
    """Makes another sampler afresh for every draw, from (seed, number of the trial, setting)."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings that are drawn together."""
        return self._at(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw them."""
        return self._at(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one setting."""
        sampler = self._at(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let it learn that the trial is finished."""
        self._at(trial, "").after_trial(study, trial, state, values)

    def _at(self, trial: FrozenTrial, name: str) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{name}".encode()).digest()
        return self._make(int.from_bytes(digest[:4], "little"))


def random(seed: int) -> BaseSampler:
    """Return independent uniform draws, on the scale of each range."""
    return Numbered(lambda number: RandomSampler(seed=number), seed)


def tpe(seed: int) -> BaseSampler:
    """Return the tree-structured Parzen estimator (Bergstra et al. 2011).

    Trials that others are running count as bad ones, so that workers keep apart.
    """

    def make(number: int) -> BaseSampler:
        with warnings.catch_warnings():
            # Before Optuna 5 this is called an experiment.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=number, constant_liar=True)

    return Numbered(make, seed)
