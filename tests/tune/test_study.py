"""Studies on disk: who runs which trial, once, whatever dies on the way. Nothing here trains."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter

import pytest

pytest.importorskip("optuna")

from bifocal.errors import ConfigError
from bifocal.tune.search import Search
from bifocal.tune.space import Choices, Range, Space
from bifocal.tune.study import STARTS, Tuning

GRID = Space(
    "space.toml",
    {
        "optim.lr": Choices(choices=(1e-3, 1e-2, 1e-1)),
        "model.vision.layers": Choices(choices=([1, 1], [2, 2])),
        "train.steps": Range(low=2, high=8, step=3),
    },
    (),
)
DRAWN = Space(
    "space.toml",
    {
        "optim.lr": Range(low=1e-4, high=1e-2, log=True),
        "optim.warmup_steps": Range(low=1, high=1000, log=True),
        "optim.beta1": Range(low=0.5, high=0.9, step=0.1),
        "train.precision": Choices(choices=("float32", "bfloat16")),
    },
    (),
)


def search(space=GRID, sampler="grid", trials=18, **rest):
    return Search(space, sampler, trials, "val/loss", rest.pop("higher", False), **rest)


def value(settings):
    return float(settings["optim.lr"])


def work(tuning, done):
    for claimed in tuning.claims():
        done.append(json.dumps(claimed.settings))
        claimed.finish(value(claimed.settings))


@pytest.mark.property
def test_workers_share_a_grid_and_run_each_combination_once(tmp_path):
    done: list[str] = []
    workers = [Tuning(search(), tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(one, done)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(done) == Counter(json.dumps(row) for row in GRID.grid())
    outcomes = Tuning(search(), tmp_path).outcomes()
    assert [one.number for one in outcomes] == list(range(18))
    assert [dict(one.settings) for one in outcomes] == GRID.grid()
    best = workers[0].best()
    assert best is not None
    assert (best.number, best.value) == (0, 1e-3)  # of equals the first


@pytest.mark.property
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_depend_on_the_number_and_not_on_who_draws(tmp_path, sampler):
    found = {}
    for name, restarts in (("whole", 1), ("broken", 6)):
        for n in range(1, restarts + 1):
            part = search(DRAWN, sampler, 6 * n // restarts)
            work(Tuning(part, tmp_path / name), [])
        outcomes = Tuning(search(DRAWN, sampler, 6), tmp_path / name).outcomes()
        found[name] = [dict(one.settings) for one in outcomes]
    assert found["whole"] == found["broken"]
    assert len({row["optim.lr"] for row in found["whole"]}) == 6
    for row in found["whole"]:
        assert 1e-4 <= row["optim.lr"] <= 1e-2
        assert isinstance(row["optim.warmup_steps"], int)
        # One draw used for both ranges would stand at the same share of each.
        shares = math.log10(row["optim.lr"] / 1e-4) / 2, math.log10(row["optim.warmup_steps"]) / 3
        assert abs(shares[0] - shares[1]) > 1e-3
    other = Tuning(search(DRAWN, sampler, 6, seed=1), tmp_path / "other")
    work(other, [])
    assert [dict(one.settings) for one in other.outcomes()] != found["whole"]


@pytest.mark.property
def test_a_trial_whose_worker_died_goes_on_under_its_number(tmp_path):
    dying = Tuning(search(DRAWN, "random", 3), tmp_path).claims()
    first = next(dying)
    beside = Tuning(search(DRAWN, "random", 3), tmp_path).claims()
    second = next(beside)
    assert (first.number, second.number) == (0, 1)  # a living worker keeps its trial
    first.report(16, 0.5)
    dying.close()  # its lock goes, as with a killed process
    second.finish(1.0)
    again = next(beside)
    assert (again.number, again.settings, again.folder) == (0, first.settings, first.folder)
    again.report(16, 0.7)  # the resumed run measures again what it had told
    again.finish(2.0)
    next(beside).fail("too hot")
    assert next(beside, None) is None
    outcomes = Tuning(search(DRAWN, "random", 3), tmp_path).outcomes()
    assert [(one.state, one.value, one.message) for one in outcomes] == [
        ("complete", 2.0, ""),
        ("complete", 1.0, ""),
        ("failed", None, "too hot"),
    ]


@pytest.mark.behaviour
def test_a_trial_that_ends_every_process_fails_unless_it_gets_on(tmp_path):
    one = search(DRAWN, "random", 1)
    for n in range(STARTS):
        claims = Tuning(one, tmp_path).claims()
        claimed = next(claims)
        if n == 1:
            (claimed.folder / "checkpoints/step-00000001").mkdir(parents=True)
        claims.close()
    claims = Tuning(one, tmp_path).claims()
    assert next(claims).number == 0  # counted anew from its checkpoint on, it has had four
    claims.close()
    claims = Tuning(one, tmp_path).claims()
    assert next(claims).number == 0
    claims.close()
    assert next(Tuning(one, tmp_path).claims(), None) is None
    (outcome,) = Tuning(one, tmp_path).outcomes()
    assert outcome.state == "failed"
    assert "ended its process 5 times" in outcome.message


@pytest.mark.behaviour
def test_a_half_written_line_is_forgotten(tmp_path):
    two = search(DRAWN, "random", 2)
    claims = Tuning(two, tmp_path).claims()
    next(claims).finish(1.0)
    claims.close()
    with (tmp_path / "study.journal").open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    work(Tuning(two, tmp_path), [])
    assert [one.state for one in Tuning(two, tmp_path).outcomes()] == ["complete"] * 2


@pytest.mark.behaviour
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_are_pruned_and_promising_ones_are_not(tmp_path, pruner):
    tuning = Tuning(
        search(DRAWN, "random", 24, higher=True, pruner=pruner, resource=(10, 90)), tmp_path
    )
    ends = {}
    for claimed in tuning.claims():
        good = claimed.number % 2 == 0
        ends[claimed.number] = good
        for pairs in (10, 30, 60):
            if claimed.report(pairs, (1.0 + claimed.number / 100 if good else 0.0) * pairs):
                claimed.prune()
                break
        else:
            claimed.finish(100.0 if good else 0.0)
    pruned = [one for one in tuning.outcomes() if one.state == "pruned"]
    assert pruned
    assert not any(ends[one.number] for one in pruned)  # each good one beats those before
    best = tuning.best()
    assert best is not None
    assert best.value == 100.0


@pytest.mark.behaviour
def test_a_study_is_not_mixed_with_another(tmp_path):
    Tuning(search(), tmp_path, identity={"train.steps": 4})
    with pytest.raises(ConfigError, match=r"other settings \(train\.steps was 4, is 5\)"):
        Tuning(search(), tmp_path, identity={"train.steps": 5})
    with pytest.raises(ConfigError, match="--sampler was 'grid', is 'random'"):
        Tuning(search(sampler="random"), tmp_path, identity={"train.steps": 4})
    Tuning(search(trials=3), tmp_path, identity={"train.steps": 4})


@pytest.mark.behaviour
def test_trials_may_be_written_below_those_by_hand(tmp_path):
    trials = ({"optim.lr": 1.0}, {"optim.lr": 2.0, "data.batch_size": 8})
    for count in (1, 2):
        tuning = Tuning(search(Space("s", {}, trials[:count]), "manual", count), tmp_path)
        work(tuning, [])
    assert [dict(one.settings) for one in tuning.outcomes()] == list(trials)
    assert tuning.importance() == {}
    with pytest.raises(ConfigError, match=r"trial 0 was .*'optim\.lr': 1\.0.*write new"):
        Tuning(search(Space("s", {}, ({"optim.lr": 3.0},)), "manual", 1), tmp_path)


@pytest.mark.behaviour
def test_machines_share_a_study_by_database(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    here = Tuning(search(trials=2), tmp_path / "here", storage)
    there = Tuning(search(trials=2), tmp_path / "there", storage)
    cut_off = here.claims()
    assert next(cut_off).number == 0
    cut_off.close()
    done: list[str] = []
    work(there, done)  # only the folder that holds its run goes on with trial 0
    assert len(done) == 1
    assert [one.state for one in there.outcomes()] == ["running", "complete"]
    work(here, done)
    assert [one.state for one in there.outcomes()] == ["complete"] * 2
    with pytest.raises(ConfigError, match=r"cannot open the study in no://u:…@h/s"):
        Tuning(search(), tmp_path / "no", "no://u:secret@h/s")


@pytest.mark.behaviour
def test_importance_names_the_setting_that_decides(tmp_path):
    tuning = Tuning(search(DRAWN, "random", 40), tmp_path)
    work(tuning, [])
    shares = tuning.importance()
    assert max(shares, key=lambda key: shares[key]) == "optim.lr"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert Tuning(search(DRAWN, "random", 5), tmp_path).importance() == {}
