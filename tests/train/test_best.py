"""The best model of a run: which it is, and that nothing takes it away."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console

import bifocal
from bifocal.cli.evaluations import Evaluations
from bifocal.cli.train import train_run
from bifocal.errors import CheckpointError, ConfigError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train import best, loop
from bifocal.train.folders import one_message, whole_folder
from bifocal.train.log import read_metrics
from bifocal.train.prepare import prepare
from bifocal.world import World

RECALL = "train.keep_best=val/text_to_image_recall@1"
OPTIONS = ("data.val=scenes:val:6", "evaluate.retrieval=true", "train.evaluate_every=1")


class Crash(Exception):
    """What a power cut looks like from inside."""


def go(config, values, crash=None) -> None:
    """Train; the evaluation of step n gives values[n - 1]."""
    run = prepare(config, World(), print)

    def evaluate(run, last):
        if run.step == crash:
            raise Crash
        return {
            "val/text_to_image_recall@1": values[run.step - 1],
            "val/loss": values[run.step - 1],
        }

    loop.train(run, Path(config.out), SoftmaxLoss(), [], evaluate)


def models(out: str) -> list[str]:
    return sorted(path.name for path in (Path(out) / "checkpoints").glob("best-*"))


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("metric", "values", "step"),
    [
        ("val/text_to_image_recall@1", (0.1, 0.3, 0.2, 0.3, 0.1), 2),  # of equals the first
        ("val/text_to_image_recall@1", (0.1, 0.2, 0.3, 0.4, 0.5), 5),
        ("val/loss", (3.0, 2.0, 1.0, 2.0, 3.0), 3),
        ("val/loss", (3.0, float("nan"), 2.0, float("inf"), 3.0), 3),
        ("val/loss", (float("nan"), 5.0, float("nan"), 6.0, 6.0), 2),
    ],
)
def test_the_best_is_kept_beyond_the_last(configure, metric, values, step):
    config = configure(*OPTIONS, f"train.keep_best={metric}", "train.steps=5", "train.keep_last=1")
    go(config, values)
    out = Path(config.out)
    assert models(config.out) == [f"best-{step:08d}"]
    assert [p.name for p in (out / "checkpoints").glob("step-*")] == ["step-00000005"]
    found = best.best(out, pytest.fail)
    assert found is not None
    assert (found.metric, found.value, found.step) == (metric, values[step - 1], step)
    # It is the model of that step, and may be taken along with its folder.
    run = prepare(configure(*OPTIONS, "train.steps=5", out="other"), World(), print)
    batches = iter(run.loader())
    for _ in range(step):
        loop.train_step(run, next(batches), SoftmaxLoss())
    batches.close()
    out.rename(out.with_name("moved"))
    loaded = bifocal.load(out.with_name("moved") / "best").model.state_dict()
    assert all(torch.equal(loaded[n], t) for n, t in run.model.state_dict().items())


@pytest.mark.property
@pytest.mark.parametrize("crash", [2, 4])
def test_a_crash_in_an_evaluation_skips_none(configure, crash):
    # Checkpoints stand at even steps, so that of the crash is on disk when it comes.
    values = [0.1] * 5
    values[crash - 1] = 0.9
    config = configure(*OPTIONS, RECALL, "train.steps=5")
    with pytest.raises(Crash):
        go(config, values, crash=crash)
    go(config, values)
    found = best.best(Path(config.out))
    assert found is not None
    assert (found.step, found.value) == (crash, 0.9)


@pytest.mark.behaviour
@pytest.mark.parametrize("call", ["rename", "symlink_to", "replace"])
def test_a_full_disk_leaves_the_best_before(configure, monkeypatch, call):
    config = configure(*OPTIONS, RECALL, "train.steps=3", "train.checkpoint_every=9")
    out = Path(config.out)
    with pytest.raises(Crash):
        go(config, (0.1, 0.2, 0.3), crash=2)
    original = getattr(Path, call)

    def full(self, *rest, **options):
        if "best" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, full)
        with pytest.raises(CheckpointError, match=r"write the best model to .*No space left"):
            go(config, (0.1, 0.2, 0.3))
    found = best.best(out, pytest.fail)
    assert found is not None
    assert found.step == 1
    bifocal.load(out / "best")
    go(config, (0.1, 0.2, 0.3))
    assert models(config.out) == ["best-00000003"]


@pytest.mark.behaviour
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "best.json", "run.json"])
def test_a_damaged_best_is_told_and_replaced(configure, name):
    config = configure(*OPTIONS, RECALL, "train.steps=3", "train.checkpoint_every=1")
    out = Path(config.out)
    with pytest.raises(Crash):
        go(config, (0.3, 0.2, 0.1), crash=3)
    raw = bytearray((out / "best" / name).read_bytes())
    raw[len(raw) // 2] ^= 2
    (out / "best" / name).write_bytes(raw)
    heard: list[str] = []
    prepare(config, World(), heard.append)
    assert f"{out}/best is damaged" in heard[0]
    go(config, (0.3, 0.2, 0.1))
    found = best.best(out, pytest.fail)
    assert found is not None
    assert found.step == 3


@pytest.mark.behaviour
def test_a_best_of_another_run_is_not_taken_over(configure):
    config = configure(*OPTIONS, RECALL, "train.steps=2")
    go(config, (0.3, 0.2))
    for folder in (Path(config.out) / "checkpoints").glob("step-*"):
        folder.rename(Path(config.out) / f"aside-{folder.name}")
    with pytest.raises(CheckpointError, match=r"other settings \(optim\.lr was"):
        prepare(configure(*OPTIONS, RECALL, "train.steps=2", "optim.lr=2e-3"), World(), print)
    assert prepare(config, World(), print).step == 0


@pytest.mark.behaviour
def test_an_unknown_figure_is_named_with_those_there_are(configure):
    options = ("data.val=scenes:val:6", "evaluate.retrieval=true")
    zero_shot = 'evaluate.zero_shot.seen.data="scenes:seen:5"'
    config = configure(*options, zero_shot, "train.keep_best=val/image_to_text_recal@1")
    with pytest.raises(ConfigError, match="did you mean 'val/image_to_text_recall@1'") as told:
        prepare(config, World(), print)
    assert "seen/top1, seen/top5" in str(told.value)
    with pytest.raises(ConfigError, match="evaluates nothing: set data"):
        prepare(configure("train.keep_best=val/loss"), World(), print)


@pytest.mark.parity
def test_the_figures_are_those_of_the_evaluations(configure):
    config = configure(
        *("data.val=scenes:val:6", "evaluate.retrieval=true", "train.steps=1"),
        *("evaluate.zero_shot.seen.data=scenes:seen:5", "train.keep_best=val/loss"),
    )
    trained = train_run(config, Console(quiet=True))
    given, known = trained.metrics.keys(), best.figures(config)
    assert known.keys() <= given
    rest = {name.rpartition("/")[2] for name in given - known.keys()}
    assert rest == {
        "chance",
        "images",
        "texts",
        "image_to_text_chance@10",
        "text_to_image_chance@10",
    }
    assert {name for name, up in known.items() if not up} == {
        "val/loss",
        "val/image_to_text_median_rank",
        "val/text_to_image_median_rank",
    }
    record = json.loads((trained.out / "best/best.json").read_text())
    assert record["value"] == trained.metrics["val/loss"]


@pytest.mark.property
def test_metrics_have_each_evaluation_once_after_a_crash(configure):
    config = configure(
        *("data.val=scenes:val:6", "evaluate.retrieval=true", "train.evaluate_every=2"),
        *("train.steps=6", "train.log_every=1"),
    )
    called = 0
    evaluate = Evaluations.__call__

    def crashing(self, run, last):
        nonlocal called
        called += 1
        if called in (2, 4):
            raise Crash
        return evaluate(self, run, last)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluations, "__call__", crashing)
        for _ in range(2):
            with pytest.raises(Crash):
                train_run(config, Console(quiet=True))
    train_run(config, Console(quiet=True))
    rows = read_metrics(Path(config.out))
    assert [r["step"] for r in rows if r["kind"] == "evaluation"] == [2, 4, 6]
    assert [r["step"] for r in rows if r["kind"] == "train"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.property
def test_a_folder_is_whole_or_as_it_was(tmp_path):
    final = tmp_path / "deep" / "folder"
    with whole_folder(final) as folder:
        (folder / "a").write_text("one")

    def fail() -> None:
        with whole_folder(final) as folder:
            (folder / "a").write_text("two")
            raise Crash

    with pytest.raises(Crash):
        fail()
    assert (final / "a").read_text() == "one"
    assert [path.name for path in final.parent.iterdir()] == ["folder"]
    with (
        pytest.raises(CheckpointError, match=r"cannot read it: No such.*intact"),
        one_message("read it"),
    ):
        (tmp_path / "none").read_bytes()
