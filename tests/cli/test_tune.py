"""`bifocal tune`: real runs of tiny towers, searched, cut off, shared and carried over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna")

import bifocal as library
from bifocal.cli import tune_trial
from bifocal.report.page import Page
from bifocal.train.log import read_metrics
from bifocal.train.recipe import load_run
from bifocal.tune.trial import Claimed

METRIC = "val/text_to_image_recall@10"
HALTING = """
import sys, time, torch
torch.set_num_threads(1)
from bifocal.cli import main, tune, tune_trial
from bifocal.train import loop
quick = loop.train_step
def halting(run, *rest):
    if run.step == 4:
        time.sleep(600)
    return quick(run, *rest)
loop.train_step = halting
main.run()
"""
"""The command, that halts before the fifth step to be killed there."""


@pytest.fixture
def recipe(recipe) -> Path:
    """Leave out the labelled pictures, which take longer to name than the pairs to learn."""
    recipe.write_text(recipe.read_text().partition("[evaluate")[0])
    return recipe


@pytest.fixture
def quick(monkeypatch):
    """Leave out the pages, which take longer than the runs; one test has them."""
    monkeypatch.setattr(tune_trial, "write_report", lambda *arguments: None)
    monkeypatch.setattr(Page, "write", lambda self, path: path)


@pytest.fixture
def space(tmp_path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text("optim.lr = { choices = [1e-3, 1e30] }\ndata.batch_size = { choices = [16] }\n")
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.mark.behaviour
def test_a_grid_leaves_runs_a_report_and_a_recipe_to_train(bifocal, recipe, space, out):
    call = ("tune", recipe, space, "optim.warmup_steps=0", "train.max_rejected=1")
    call += ("--sampler", "grid", "--metric", METRIC, "--out", out, "--scale-to", "ViT-B/16")
    said = bifocal(*call)
    assert said.status == 0, said.text
    assert "2 of 2 trials: 1 complete, 1 failed" in said.text
    assert "trial 1: failed: the last 1 steps up to" in said.text
    assert max(map(len, said.out.splitlines()[:-4])) <= 80
    for name in ("recipe.toml", "report.html", "results.json", "metrics.jsonl", "model"):
        assert (out / "trials/0000" / name).exists(), name
    library.load(out / "trials/0000")
    page = (out / "report.html").read_text()
    for part in ("Trial 1 failed: the last 1 steps", "Each setting alone", "optim.lr", "1 warning"):
        assert part in page, part
    assert not re.search(r'(src|href)="(?!data:|#)', page), "the report leans on other files"
    best = load_run(out / "best.toml", [])
    assert (best.optim.lr, best.out, best.train.steps) == (1e-3, str(out / "best"), 4)
    large = load_run(out / "ViT-B-16.toml", [])
    assert large.model.vision.image_size == 224
    assert large.optim.lr == pytest.approx(1e-3)

    before = (out / "trials/0000/metrics.jsonl").stat().st_mtime_ns
    again = bifocal(*call)
    assert again.status == 0
    assert "trial 0 of" not in again.text
    assert (out / "trials/0000/metrics.jsonl").stat().st_mtime_ns == before
    other = bifocal(*call[:3], "train.steps=5", *call[3:])
    assert other.status == 1
    assert "train.steps was 4, is 5" in other.text


@pytest.mark.property
def test_a_killed_worker_loses_nothing_and_disturbs_nobody(bifocal, recipe, tmp_path, out, quick):
    space = tmp_path / "space.toml"
    space.write_text("optim.lr = { low = 1e-4, high = 1e-2, log = true }\n")
    call = ["tune", recipe, space, "train.steps=8", "train.checkpoint_every=2", "train.log_every=1"]
    call += ["--sampler", "random", "--trials", "2", "--metric", METRIC, "--out", out]
    arguments = [sys.executable, "-c", HALTING, *map(str, call)]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    ) as worker:
        try:
            first = out / "trials/0000"
            until((first / "checkpoints/step-00000004").exists, worker)
            beside = bifocal(*call)
        finally:
            worker.kill()
    assert worker.returncode == -signal.SIGKILL
    assert "2 of 2 trials: 1 complete, 1 running" in beside.text, beside.text
    rate = load_run(first / "recipe.toml", []).optim.lr
    again = bifocal(*call)
    assert "2 of 2 trials: 2 complete" in again.text
    assert again.out.count("trial 0 of 2") == 1
    assert "trial 1 of" not in again.out
    assert "at step 4 of 8" in again.text
    assert load_run(first / "recipe.toml", []).optim.lr == rate
    steps = [row["step"] for row in read_metrics(first) if row["kind"] == "train"]
    assert steps == list(range(1, 9))


@pytest.mark.behaviour
def test_an_interrupted_search_goes_on_where_it_was(
    bifocal, recipe, space, out, quick, monkeypatch
):
    call = ("tune", recipe, space, "train.evaluate_every=1", "--sampler", "grid", "--trials", "1")
    call += ("--metric", METRIC, "--out", out)

    def interrupt(self, pairs, value):
        if pairs == 32:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Claimed, "report", interrupt)
        said = bifocal(*call)
    assert said.status == 130
    assert "stopped at step 2 of 4" in said.text
    assert "1 of 1 trials: 1 running" in said.text
    said = bifocal(*call)
    assert said.status == 0
    assert "at step 2 of 4" in said.text
    assert "1 of 1 trials: 1 complete" in said.text


@pytest.mark.behaviour
def test_a_pruned_run_stops_with_its_records_whole(bifocal, recipe, space, out, quick, monkeypatch):
    monkeypatch.setattr(Claimed, "report", lambda self, pairs, value: pairs >= 32)
    said = bifocal(
        *("tune", recipe, space, "train.evaluate_every=1", "--sampler", "grid", "--trials", "1"),
        *("--pruner", "median", "--metric", METRIC, "--out", out),
    )
    assert said.status == 0, said.text
    assert "trial 0: pruned" in said.text
    rows = read_metrics(out / "trials/0000")
    assert [row["step"] for row in rows if row["kind"] == "evaluation"] == [1, 2]
    assert not (out / "trials/0000/model").exists()
    assert not (out / "best.toml").exists()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("optim.lrr = {choices=[1]}", (), r"unknown setting 'optim\.lrr' — did you mean 'lr'"),
        ("optim.lr = {low=-1.0,high=1.0}", (), r"'optim\.lr' is -1\.0: Input should be greater"),
        ("optim.lr = {choices=[1e-3,'a']}", (), r"'optim\.lr' is 'a': Input should be a valid"),
        ("data.val = {choices=['scenes:val:9']}", (), r"'data\.val' changes what .* measures"),
        ("data.batch_size = {choices=[8]}", ("--metric", "val/loss"), r"or take a recall as"),
        ("optim.lr = {choices=[1]}", ("--metric", "val/los"), r"did you mean 'val/loss'"),
        ("optim.lr = {choices=[1]}", ("--pruner", "median"), r"set train\.evaluate_every below"),
        ("optim.lr = {choices=[1]}", ("--sampler", "manual"), r"needs trials under \[\[trial\]\]"),
        ("optim.lr = {choices=[1]}", ("--scale-to", "RN5"), r"no architecture is named 'RN5'"),
        ("optim.lr = {choices=[1]}", ("--storage", "no://x"), r"cannot open the study in no://x"),
        ("optim.lr = {choices=[1]}", ("data.train=none.tar",), r"none\.tar"),
    ],
)
def test_a_mistake_is_one_message(bifocal, recipe, space, out, text, options, message):
    space.write_text(text)
    said = bifocal("tune", recipe, space, *options, "--out", out)
    assert said.status == 1
    assert said.out == ""
    assert re.search(message, " ".join(said.err.split())), said.err
    assert not (out / "trials").exists()


@pytest.mark.behaviour
def test_optuna_and_torchrun_are_told_of(bifocal, recipe, space, out, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        for name in [one for one in sys.modules if one.startswith("bifocal.tune.st")]:
            patch.delitem(sys.modules, name)
        said = bifocal("tune", recipe, space, "--out", out)
    assert said.status == 1
    assert "pip install 'bifocal[tune]'" in said.text
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start `bifocal tune` once for each" in bifocal("tune", recipe, space).text


def until(ready, worker) -> None:
    """Wait for a worker to get so far; fail if it ends before."""
    for _ in range(1200):
        if ready():
            return
        assert worker.poll() is None, "the worker ended"
        time.sleep(0.05)
    pytest.fail("the worker did not get so far in a minute")
