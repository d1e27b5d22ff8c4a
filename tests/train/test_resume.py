"""Exact resume: a run that was stopped anywhere ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from bifocal.cli.train import train_run
from bifocal.errors import CheckpointError
from bifocal.train.log import MetricsLog, read_metrics
from bifocal.train.prepare import prepare
from bifocal.train.recipe import load_run
from bifocal.world import World

HALF = (
    "train.precision=float16",
    "train.chunk_size=7",
    "optim.statistics=float16",
    "optim.image_weights=bfloat16",
    "optim.text_weights=float16",
    "optim.max_update_rms=1",
    "optim.average_decay=0.9",
)


class Crash(Exception):
    """What a power cut looks like from inside."""


class CrashAt:
    """A hook that crashes after a step, before its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, run, metrics) -> None:
        if metrics.step == self.step:
            raise Crash

    def on_evaluation(self, run, metrics) -> None:
        pass

    def on_message(self, message) -> None:
        pass


def weights(out: str, step: int = 8) -> bytes:
    return (Path(out) / f"checkpoints/step-{step:08d}/model.safetensors").read_bytes()


def kept(out: str, step: int = 8) -> dict[str, object]:
    """All that a checkpoint holds, but for settings, which may differ, and hashes."""
    folder = Path(out) / f"checkpoints/step-{step:08d}"
    state = json.loads((folder / "state.json").read_text("utf-8"))
    del state["sha256"]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} | state


AVERAGED = ("train.precision=float16", "optim.average_decay=0.9", "optim.statistics=bfloat16")


@pytest.mark.property
@pytest.mark.parametrize("model", ["vit", "resnet"])
@pytest.mark.parametrize(
    "options", [(), ("train.precision=bfloat16", "augment.min_area=0.4"), HALF, AVERAGED]
)
def test_resumed_is_uninterrupted_bit_for_bit(configure, train, model, options):
    whole = configure(*options, model=model, out="whole")
    train(whole)
    broken = configure(*options, "data.threads=1", model=model, out="broken")
    heard: list[str] = []
    for step in (1, 3, 4, 7):
        with pytest.raises(Crash):
            train(broken, CrashAt(step), say=heard.append)
    run = train(broken, say=heard.append)
    assert run.step == 8
    assert run.cursor.position == 8 * 16
    assert kept(broken.out) == kept(whole.out)
    steps = [line.split("at step ")[1] for line in heard]
    assert steps == ["2 of 8", "2 of 8", "6 of 8"]


@pytest.mark.property
def test_a_finished_run_is_not_trained_again(configure, train):
    config = configure()
    train(config)
    before = weights(config.out)
    run = train(config, CrashAt(9))
    assert run.step == 8
    assert weights(config.out) == before


@pytest.mark.property
def test_other_data_order_gives_other_weights(configure, train):
    # What the equalities above would miss if nothing depended on the data.
    train(configure(out="one"))
    train(configure("seed=1", out="two"))
    assert weights(configure(out="one").out) != weights(configure(out="two").out)


@pytest.mark.property
def test_metrics_tell_one_story_after_a_crash(configure, train):
    config = configure("train.log_every=1")
    out = Path(config.out)

    def attempt(crash: int) -> None:
        run = prepare(config, World(), print)
        log = MetricsLog(run, out)
        try:
            train(config, log, CrashAt(crash))
        finally:
            log.close()

    out.mkdir()
    for crash in (3, 7):
        with pytest.raises(Crash):
            attempt(crash)
        with (out / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "ki')  # torn by the crash
    attempt(0)
    rows = read_metrics(out)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["pairs"] for row in rows] == [16 * n for n in range(1, 9)]
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.behaviour
def test_changed_settings_are_named(configure, train):
    train(configure("train.steps=2"))
    with pytest.raises(CheckpointError, match=r"settings \(optim\.lr was 0\.001, is 0\.002\)"):
        train(configure("train.steps=2", "optim.lr=2e-3"))
    with pytest.raises(CheckpointError, match=r"data\.train was 'scenes:train:48'"):
        train(configure("train.steps=2", "data.train=scenes:train:49"))
    with pytest.raises(CheckpointError, match=r"model\.vision\.layers was 1, is 2"):
        train(configure("train.steps=2", "model.vision.layers=2"))
    # What does not touch the weights may change.
    train(configure("train.steps=2", "train.log_every=3", "data.threads=3", "train.keep_last=5"))


@pytest.mark.behaviour
def test_other_data_under_the_same_name_are_noticed(configure, train, tmp_path):
    table = tmp_path / "pairs.jsonl"

    def write(count: int) -> None:
        for n in range(count):
            Image.new("RGB", (32, 32), (n, 0, 0)).save(tmp_path / f"{n}.png")
        rows = [{"image": f"{n}.png", "caption": f"number {n} of many"} for n in range(count)]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))

    options = (f"data.train={table}", "train.steps=2")
    write(20)
    train(configure(*options))
    train(configure(*options))
    write(21)
    with pytest.raises(CheckpointError, match="was trained on other data"):
        train(configure(*options))


RECIPE = """
[model]
embed_dim = 32
[model.vision]
image_size = 32
patch_size = 8
width = 32
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 600
width = 32
layers = 1
heads = 2
[data]
train = "scenes:train:200"
batch_size = 16
[optim]
lr = 1e-3
warmup_steps = 10
[train]
steps = 100
checkpoint_every = 7
log_every = 1
device = "cpu"
"""


@contextmanager
def started(recipe: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Train in a process of its own, which is gone when the block is left."""
    program = "from bifocal.cli.main import run; run()"
    command = [sys.executable, "-c", program, "train", str(recipe), f"out={out}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> None:
    """Return as soon as the run has logged so many steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        rows = read_metrics(out)
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"step {step} was not reached: {process.communicate()[0]}")


@pytest.mark.property
def test_a_process_that_is_interrupted_and_killed_ends_with_the_same_bits(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    out = tmp_path / "killed"

    with started(recipe, out) as process:
        wait_for_step(process, out, 10)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("stopped at step") == 1
    assert "Run the same command again" in said.replace("\n", " ")
    assert "Traceback" not in said
    stopped = read_metrics(out)[-1]["step"]
    assert (out / f"checkpoints/step-{stopped:08d}/state.json").exists()

    with started(recipe, out) as process:
        wait_for_step(process, out, stopped + random.randint(1, 30))
        process.kill()
    assert read_metrics(out)[-1]["step"] < 100, "killed too late to mean anything"

    with started(recipe, out) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "resumed" in said
    assert [row["step"] for row in read_metrics(out) if row["kind"] == "train"] == [*range(1, 101)]

    assert torch.get_num_threads() == 1
    train_run(load_run(recipe, [f"out={tmp_path / 'whole'}"]), Console(quiet=True))
    for name in ("model/model.safetensors", "checkpoints/step-00000100/optimizer.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
