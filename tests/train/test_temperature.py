"""The temperature as settings have it: learned or fixed, clipped somewhere or nowhere."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bifocal.data.batch import Batch
from bifocal.errors import CheckpointError, ConfigError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSoftmaxLoss
from bifocal.settings import build
from bifocal.train.config import RunConfig
from bifocal.train.prepare import prepare
from bifocal.train.state import Run
from bifocal.train.step import train_step
from bifocal.world import World

FIXED = "loss.learn_temperature=false"


class Larger(SoftmaxLoss):
    """A loss that wants nothing but a larger scale."""

    def value(self, features, sharing=None):
        anchor = features.image.sum() + features.text.sum()
        return 0 * anchor - features.logit_scale


class Stop(Exception):
    """What ends a run from inside."""


class StopAt:
    """A hook that ends a run after a step, before its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, run, metrics) -> None:
        if metrics.step == self.step:
            raise Stop

    def on_evaluation(self, run, metrics) -> None:
        pass

    def on_message(self, message) -> None:
        pass


def first_batch(run: Run) -> Batch:
    batches = iter(run.loader())
    batch = next(batches)
    batches.close()
    return batch


def scale_after_a_push(config: RunConfig, start: float) -> float:
    """Return the multiplier after one large step towards larger ones."""
    run = prepare(config, World(), print)
    with torch.no_grad():
        run.model.logit_scale.fill_(math.log(start))
    run.schedule = type(run.schedule)(peak=1.0, warmup=0, total=8)
    train_step(run, first_batch(run), Larger())
    return run.model.logit_scale.exp().item()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("maximum", "expected"), [("100", 100.0), ("30", 30.0), ("inf", 90 * math.e)]
)
def test_the_scale_is_clipped_where_the_settings_say(configure, maximum, expected):
    config = configure(f"loss.max_logit_scale={maximum}")
    assert scale_after_a_push(config, min(90.0, expected)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "options",
    [
        ("train.chunk_size=5",),
        ("model.init_temperature=0.002", "train.precision=float16", "optim.average_decay=0.9"),
    ],
)
def test_a_fixed_temperature_never_moves(configure, train, options):
    config = configure(FIXED, "optim.weight_decay=0.5", *options)
    run = train(config)
    start = 1 / config.model.init_temperature  # 500 is beyond the clip, and stays too
    assert run.model.logit_scale.item() == pytest.approx(math.log(start), abs=1e-6)
    assert run.model.logit_scale.grad is None
    assert run.model.logit_scale not in run.optimizer.state
    others = [p for p in run.model.parameters() if p is not run.model.logit_scale]
    assert all(p in run.optimizer.state for p in others)


@pytest.mark.property
def test_a_fixed_temperature_leaves_the_other_gradients(configure):
    run = prepare(configure(), World(), print)
    batch = first_batch(run)
    found = {}
    cases = {
        "learned": ((), SoftmaxLoss()),
        "fixed": ((FIXED,), SoftmaxLoss()),
        "tiled": ((FIXED,), TiledSoftmaxLoss(5)),
        "chunks": ((FIXED, "train.chunk_size=3"), TiledSoftmaxLoss(5)),
    }
    for name, (options, loss) in cases.items():
        run = prepare(configure(*options), World(), print)
        train_step(run, batch, loss)
        found[name] = {n: p.grad for n, p in run.model.named_parameters()}
    learned = found.pop("learned")
    assert learned.pop("logit_scale") is not None
    for name, gradients in found.items():
        assert gradients.pop("logit_scale") is None
        for parameter, gradient in gradients.items():
            expected = learned[parameter]
            atol = 1e-6 * max(1.0, expected.abs().max().item())  # sums round as their terms do
            torch.testing.assert_close(
                gradient, expected, rtol=1e-4, atol=atol, msg=f"{name}: {parameter}"
            )


@pytest.mark.property
def test_settings_without_a_clip_are_json_and_come_back(configure):
    config = configure("loss.max_logit_scale=inf")
    text = config.to_json()
    table = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert table["loss"]["max_logit_scale"] == "inf"
    assert build(RunConfig, table, "test") == config


@pytest.mark.behaviour
def test_runs_resume_under_old_settings_and_without_a_clip(configure, train):
    for options in ((), ("loss.max_logit_scale=inf", FIXED)):
        out = f"run-{len(options)}"
        train(configure("train.steps=2", *options, out=out))
        assert train(configure("train.steps=2", *options, out=out)).step == 2
    path = Path(configure(out="run-0").out) / "checkpoints/step-00000002/run.json"
    table = json.loads(path.read_text())
    del table["loss"]["learn_temperature"], table["loss"]["max_logit_scale"]
    path.write_text(json.dumps(table))
    assert train(configure("train.steps=2", out="run-0")).step == 2
    with pytest.raises(CheckpointError, match=r"learn_temperature was True, is False"):
        train(configure("train.steps=2", FIXED, out="run-0"))


@pytest.mark.property
def test_a_fixed_temperature_resumes_bit_for_bit(configure, train):
    whole = configure(FIXED, "train.steps=4", out="whole")
    train(whole)
    parts = configure(FIXED, "train.steps=4", out="parts")
    with pytest.raises(Stop):
        train(parts, StopAt(3))
    train(parts)
    name = "checkpoints/step-00000004/model.safetensors"
    assert (Path(whole.out) / name).read_bytes() == (Path(parts.out) / name).read_bytes()


@pytest.mark.behaviour
@pytest.mark.parametrize("option", [FIXED, "loss.max_logit_scale=inf"])
def test_predictive_losses_have_no_temperature(configure, option):
    with pytest.raises(ConfigError, match=r"loss\.\w+ is for contrastive losses: leave it out"):
        configure("loss.form=caption", option)


@pytest.mark.behaviour
@pytest.mark.parametrize("value", ["0", "-1", "nan"])
def test_a_clip_that_is_no_positive_number_is_refused(configure, value):
    with pytest.raises(ConfigError, match=r"loss\.max_logit_scale.*greater than 0"):
        configure(f"loss.max_logit_scale={value}")
