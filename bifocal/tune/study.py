"""A study on disk: which trials there are, who runs them, what came of them.

The engine is Optuna, its storage a journal file or a database that several machines share. A trial
that is being run is claimed by a lock of the kernel, which goes with its process: a trial whose
process was killed is found by its free lock and goes on, under its number and in its folder, from
its run's last checkpoint. A trial belongs to the study folder that began it, for only there is its
run. Imports Optuna, which is optional; whoever may lack it imports this when it is needed.
"""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bifocal.errors import ConfigError
from bifocal.files import write_atomically
from bifocal.tune.claim import locked
from bifocal.tune.search import Search
from bifocal.tune.storage import open_study
from bifocal.tune.trial import Claimed, Outcome, age, frozen_trial, outcome, suggest

UNPLACED_SECONDS = 60.0
"""Age at which a trial that no folder has taken was begun by a process that died in that moment."""
STARTS = 5
"""Times that a trial may end its process without a new checkpoint before it counts as failed."""
FEW = 8
"""Complete trials below which nothing is said of the importance of settings."""
TOP = 0.25
"""Share of the trials that the importance of a setting is judged by."""


class Tuning:
    """A search that goes on in a folder.

    Args:
        search: what is looked for, and how.
        out: the study's folder; runs are in `out/trials/NNNN`.
        storage: database address or path of a journal file; empty for the folder's own.
        name: of the study among others in a database.
        identity: settings that decide what a trial gives; a study that was begun with others is
            refused.

    Raises:
        ConfigError: the storage cannot be opened, or holds another study.
        CheckpointError: the folder cannot be written.
    """

    def __init__(
        self,
        search: Search,
        out: Path,
        storage: str = "",
        name: str = "study",
        identity: Mapping[str, Any] = {},
    ) -> None:
        self.search, self.out = search, out
        with self._alone():
            self._place = _place(out / "place.json")
            self._study = open_study(search, storage or str(out / "study.journal"), name)
            self._check_same({**identity, **search.identity()})
            self._check_by_hand()

    def claims(self) -> Generator[Claimed, None, None]:
        """Yield trials to run until none is left: first those that were cut off, then new ones.

        Each is claimed until the next is asked for, or the iterator is closed.
        """
        while (number := self._next()) is not None:
            with locked(self._lock(number), wait=False) as free:
                frozen = frozen_trial(self._study, number)
                if not free or frozen.state is not TrialState.RUNNING:
                    continue  # another worker was quicker
                trial = optuna.Trial(self._study, frozen._trial_id)
                claimed = Claimed(trial, self._settings(trial), self.folder(number))
                if self._may_start(trial, claimed):
                    yield claimed

    def outcomes(self) -> list[Outcome]:
        """Return all trials in order."""
        return [outcome(trial) for trial in self._trials()]

    def best(self) -> Outcome | None:
        """Return the complete trial of the best figure; of equals the first."""
        complete = [one for one in self.outcomes() if one.state == "complete"]
        sign = 1 if self.search.higher else -1
        return max(complete, key=lambda one: sign * (one.value or 0.0), default=None)

    def importance(self) -> dict[str, float]:
        """Return each setting's share in being among the best quarter, by PED-ANOVA.

        Watanabe et al. 2023, arXiv 2304.10255. Of few trials, and of trials by hand, nothing is
        said: the table is empty.
        """
        complete = [t for t in self._trials() if t.state is TrialState.COMPLETE and t.params]
        varied = {key for t in complete for key, d in t.distributions.items() if not d.single()}
        if len(complete) < FEW or len({t.value for t in complete}) < 2 or not varied:
            return {}
        # Imported here: it brings along scikit-learn if that is there, which is slow to start.
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trials so few that the figure is rough
            evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP)
            return get_param_importances(self._study, evaluator=evaluator, params=sorted(varied))

    def folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return self.out / "trials" / f"{number:04d}"

    def _trials(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.number < self.search.trials]

    def _next(self) -> int | None:
        with self._alone():
            number = self._cut_off()
            return self._new() if number is None else number

    def _cut_off(self) -> int | None:
        """Return the first trial of this folder that is unfinished and nobody's."""
        for trial in self._trials():
            if trial.state is not TrialState.RUNNING:
                continue
            place = trial.user_attrs.get("place")
            if place is None and age(trial) > UNPLACED_SECONDS:
                place = self._place
                optuna.Trial(self._study, trial._trial_id).set_user_attr("place", place)
            if place == self._place:
                with locked(self._lock(trial.number), wait=False) as free:
                    if free:
                        return trial.number
        return None

    def _new(self) -> int | None:
        """Begin a trial; None if there are as many as were asked for."""
        if len(self._study.get_trials(deepcopy=False)) >= self.search.trials:
            return None
        trial = self._study.ask()
        if trial.number >= self.search.trials:  # another machine was quicker
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("place", self._place)
        return trial.number

    def _settings(self, trial: optuna.Trial) -> Mapping[str, Any]:
        """Return the settings of a trial, drawn now or, of one that was cut off, before."""
        search = self.search
        if search.sampler == "manual":
            settings = dict(search.space.trials[trial.number])
        else:
            items = search.space.dimensions.items()
            settings = {key: suggest(trial, key, dimension) for key, dimension in items}
        trial.set_user_attr("settings", json.dumps(settings))
        return settings

    def _may_start(self, trial: optuna.Trial, claimed: Claimed) -> bool:
        """Count starts without progress; end a trial that ends its process again and again."""
        checkpoints = claimed.folder.glob("checkpoints/step-*")
        newest = max((path.name for path in checkpoints), default="")
        before, starts = trial.user_attrs.get("starts", (newest, 0))
        starts = starts + 1 if before == newest else 1
        if starts > STARTS:
            claimed.fail(f"ended its process {STARTS} times without a new checkpoint")
            return False
        trial.set_user_attr("starts", (newest, starts))
        return True

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(identity, default=str))
        if "identity" not in self._study.user_attrs:
            self._study.set_user_attr("identity", now)
            return
        before = self._study.user_attrs["identity"]
        changed = [
            f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise ConfigError(
                f"{self.out} holds a study of other settings ({'; '.join(changed)}): its trials "
                "cannot be compared with new ones. Take the settings back, or another --out"
            )

    def _check_by_hand(self) -> None:
        for one in self.outcomes() if self.search.sampler == "manual" else ():
            now = dict(self.search.space.trials[one.number])
            if one.settings and one.settings != now:
                raise ConfigError(
                    f"{self.search.space.origin}: trial {one.number} was {dict(one.settings)}, is "
                    f"{now}, and has been run: leave it as it was and write new ones below"
                )

    def _lock(self, number: int) -> Path:
        return self.out / "locks" / f"{number:04d}"

    def _alone(self) -> AbstractContextManager[bool]:
        return locked(self.out / "locks" / "study")


def _place(path: Path) -> str:
    """Return the name of the study folder, given when it is made."""
    if not path.exists():
        write_atomically(path, json.dumps({"place": secrets.token_hex(8)}).encode())
    return json.loads(path.read_text("utf-8"))["place"]
