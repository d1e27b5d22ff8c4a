"""What a run writes beside its checkpoints: never in the way of going on, and never torn."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bifocal.cli import train as command
from bifocal.errors import CheckpointError, TrainingError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train import checkpoint
from bifocal.train.log import MetricsLog, read_metrics
from bifocal.train.prepare import prepare
from bifocal.train.rejected import REJECTED, RejectedLog
from bifocal.train.step import train_step
from bifocal.world import World

VALIDATION = ("data.val=scenes:val:12", "evaluate.retrieval=true")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.behaviour
def test_a_run_goes_on_when_what_it_began_from_is_gone(configure, train):
    first = configure("train.steps=2", out="first")
    run = train(first)
    run.model.eval()
    run.pretrained.save(Path(first.out) / "model")
    options = (f"init={first.out}", "model.image_size=64", "train.steps=4")
    whole, short = (configure(*options, out=name) for name in ("whole", "broken"))
    train(whole)
    run = prepare(short, World(), print)
    batches = iter(run.loader())
    train_step(run, next(batches), SoftmaxLoss())
    batches.close()
    checkpoint.save(run, Path(short.out))
    shutil.rmtree(first.out)
    again = configure(*options, out="broken")
    assert again == short
    train(again)
    name = "checkpoints/step-00000004/model.safetensors"
    assert (Path(again.out) / name).read_bytes() == (Path(whole.out) / name).read_bytes()
    # Nothing saved, nothing to go on from.
    with pytest.raises(CheckpointError, match="no model in"):
        configure(*options, out="none")


@pytest.mark.behaviour
@pytest.mark.parametrize("room", ["metrics", "events", "results", "report", "model"])
def test_a_full_disk_is_one_message_and_the_run_goes_on_later(
    configure, monkeypatch, tmp_path, room
):
    config = configure(*VALIDATION, "train.steps=4", "train.log_every=1")
    out = Path(config.out)

    def whole_command() -> None:
        quiet = Console(quiet=True)
        command.finish(command.train_run(config, quiet), quiet)

    with monkeypatch.context() as patch:
        match room:
            case "metrics":
                patch.setattr("bifocal.train.log.write_atomically", full)
            case "events":
                patch.setattr("bifocal.train.log.EventsWriter", full)
            case "results":
                patch.setattr(command, "write_atomically", full)
            case "report":
                patch.setattr("bifocal.report.page.write_atomically", full)
            case "model":
                patch.setattr(command, "whole_folder", full)
        with pytest.raises(CheckpointError, match=r"cannot write .*No space left.*intact"):
            whole_command()
    whole_command()
    steps = [row["step"] for row in read_metrics(out) if row["kind"] == "train"]
    assert steps == [1, 2, 3, 4]
    assert any((out / "model").iterdir())
    assert (out / "report.html").exists()


@pytest.mark.behaviour
def test_metrics_of_before_outlive_a_disk_that_fills_up_at_the_start(configure, train, monkeypatch):
    config = configure("train.steps=4", "train.log_every=1")
    out = Path(config.out)
    out.mkdir()
    log = MetricsLog(prepare(config, World(), print), out)
    train(config, log)
    log.close()
    before = (out / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="cannot write"):
            MetricsLog(prepare(config, World(), print), out)
    assert (out / "metrics.jsonl").read_bytes() == before


@pytest.mark.behaviour
def test_garbage_among_the_metrics_is_left_out(tmp_path):
    rows = [{"step": 1, "kind": "train"}, {"step": 2, "kind": "train"}]
    lines = [
        json.dumps(rows[0]).encode(),
        b"\xff\xfe",
        bytes(9),
        b"3",
        b"[]",
        json.dumps(rows[1]).encode(),
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_metrics(tmp_path) == rows


@pytest.mark.behaviour
def test_rejected_steps_tell_one_story_after_a_crash(configure, train, tmp_path):
    config = configure("train.steps=4", "train.checkpoint_every=2")
    run = train(config)
    run.step = 2
    line = json.dumps({"step": 2, "keys": []})
    torn = line + "\n" + json.dumps({"step": 3}) + "\n" + '{"step": 4, "ke'
    (tmp_path / REJECTED).write_text(torn)
    RejectedLog(tmp_path, run)
    assert (tmp_path / REJECTED).read_text() == line + "\n"


@pytest.mark.behaviour
@pytest.mark.parametrize("error", [MemoryError(), MemoryError("2 GiB")])
def test_too_little_memory_is_one_message(configure, monkeypatch, error):
    def run_out(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "_train_run", run_out)
    with pytest.raises(TrainingError, match=r"memory ran out .*run the same"):
        command.train_run(configure(), Console(quiet=True))
