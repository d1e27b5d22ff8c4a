"""What a run writes down of itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train.log import MetricsLog, read_metrics
from bifocal.train.prepare import prepare
from bifocal.train.step import train_step
from bifocal.world import World


@pytest.mark.behaviour
def test_a_record_is_the_mean_since_the_last(configure):
    config = configure("train.log_every=3", "train.steps=7")
    out = Path(config.out)
    out.mkdir()
    run = prepare(config, World(), print)
    log = MetricsLog(run, out)
    batches = iter(run.loader())
    losses = []
    for _ in range(7):
        metrics = train_step(run, next(batches), SoftmaxLoss())
        losses.append(metrics.loss)
        log.on_step(run, metrics)
        if metrics.step == 3:
            log.on_evaluation(run, {"val/recall": 0.25})
    batches.close()
    log.close()
    rows = read_metrics(out)
    train = [row for row in rows if row["kind"] == "train"]
    # The last step is written down whenever it comes.
    assert [row["step"] for row in train] == [3, 6, 7]
    means = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    assert [row["loss"] for row in train] == pytest.approx(means)
    assert [row["pairs"] for row in train] == [48, 96, 112]
    assert all(row["pairs_per_second"] > 0 and 3 < row["text_length"] <= 16 for row in train)
    assert [row for row in rows if row["kind"] == "evaluation"] == [
        {"step": 3, "kind": "evaluation", "val/recall": 0.25}
    ]
    assert list((out / "tensorboard").iterdir())


@pytest.mark.behaviour
def test_a_torn_line_is_left_out_and_a_missing_file_is_empty(tmp_path):
    assert read_metrics(tmp_path) == []
    rows = [{"step": 1, "kind": "train"}, {"step": 2, "kind": "train"}]
    text = "\n".join([json.dumps(rows[0]), '{"step": 9, "ki', json.dumps(rows[1]), ""])
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_metrics(tmp_path) == rows


@pytest.mark.behaviour
def test_what_is_no_number_is_null_in_the_file_and_nan_when_read(configure):
    config = configure("train.steps=1")
    out = Path(config.out)
    out.mkdir()
    run = prepare(config, World(), print)
    values = {"val/loss": math.nan, "val/top1": math.inf, "val/recall": 0.5}
    for _ in range(2):  # the second one, as a resumed run does, rewrites the lines of the first
        log = MetricsLog(run, out)
        run.step = 1
        log.on_evaluation(run, values)
        log.close()
        run.step = 2
    lines = (out / "metrics.jsonl").read_text().splitlines()
    # Python's own parser would take NaN.
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert found[0] == {
        "step": 1,
        "kind": "evaluation",
        "val/loss": None,
        "val/top1": None,
        "val/recall": 0.5,
    }
    assert math.isnan(read_metrics(out)[0]["val/loss"])
