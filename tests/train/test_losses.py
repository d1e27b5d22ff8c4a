"""Which loss a run trains by, from its settings to its report."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from bifocal.cli.train import train_run
from bifocal.errors import ConfigError
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.train.log import read_metrics
from bifocal.train.objective import contrastive_loss

SIGMOID = ("loss.form=sigmoid", "model.init_logit_bias=-3", "model.init_temperature=0.1")


@pytest.mark.behaviour
def test_settings_choose_the_loss(configure):
    assert contrastive_loss(configure()) == TiledSoftmaxLoss()
    assert contrastive_loss(configure("loss.tile=7")) == TiledSoftmaxLoss(7)
    assert isinstance(contrastive_loss(configure("loss.tile=0")), SoftmaxLoss)
    assert contrastive_loss(configure(*SIGMOID, "loss.tile=7")) == TiledSigmoidLoss(7)
    assert isinstance(contrastive_loss(configure(*SIGMOID, "loss.tile=0")), SigmoidLoss)
    with pytest.raises(ConfigError, match=r"set model\.init_logit_bias=-10"):
        contrastive_loss(configure("loss.form=sigmoid"))


@pytest.mark.behaviour
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_sigmoid_run_learns_its_bias_and_is_measured_by_its_own_loss(configure):
    options = ("train.steps=40", "optim.lr=3e-3", "train.log_every=1", "evaluate.retrieval=true")
    config = configure(*SIGMOID, *options, "data.val=scenes:train:48")
    trained = train_run(config, Console(quiet=True))
    losses = [row["loss"] for row in read_metrics(Path(config.out)) if row["kind"] == "train"]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    bias = trained.run.model.logit_bias
    assert bias is not None
    assert bias.item() != -3
    assert trained.metrics["val/loss"] == pytest.approx(losses[-1], rel=0.4)


@pytest.mark.behaviour
@pytest.mark.parametrize(("statistics", "flushed"), [("float32", True), ("float16", False)])
def test_a_run_flushes_denormals_and_the_process_goes_on_without(configure, statistics, flushed):
    seen = []

    class Look(Console):
        def print(self, *args, **kwargs) -> None:
            seen.append(bool(torch.tensor(1e-38) * torch.tensor(0.1) == 0))

    options = ("train.steps=1", "data.val=scenes:val:20", "evaluate.retrieval=true")
    train_run(configure(*options, f"optim.statistics={statistics}"), Look())
    assert set(seen) == {flushed}
    assert torch.tensor(1e-38) * torch.tensor(0.1) != 0


@pytest.mark.behaviour
def test_compiling_without_a_compiler_is_one_message(configure, train, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        train(configure("train.compile=true"))
