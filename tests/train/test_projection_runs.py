"""Runs whose projections have a hidden layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bifocal import pretrained
from bifocal.data.batch import Batch
from bifocal.embed import Job, embed
from bifocal.errors import CheckpointError, ConfigError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.train.prepare import open_training, prepare
from bifocal.train.state import Run
from bifocal.train.step import train_step
from bifocal.world import World

MLP = "model.projection=mlp"
HEADS = ("image_head.weight", "text_head.weight")


def any_pairs(run: Run, count: int) -> Batch:
    """Noise beside ids: nothing to know but by heart."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(0, 400, (count, 6), generator=generator)
    tokens[:, 0], tokens[:, -1] = run.tokenizer.start, run.tokenizer.end
    return Batch(
        images=patches.repeat_interleave(8, 2).repeat_interleave(8, 3),
        tokens=tokens,
        lengths=torch.full((count,), 6),
        keys=tuple(map(str, range(count))),
        positions=torch.arange(count),
        cursor=run.cursor,
    )


@pytest.mark.behaviour
def test_pairs_are_learned_by_heart(configure):
    config = configure(
        MLP,
        "model.vision.width=64",
        "model.text.width=64",
        "optim.weight_decay=0",
        "optim.lr=2e-3",
        "train.steps=150",
    )
    run = prepare(config, World(), print)
    before = {name: run.model.state_dict()[name].clone() for name in HEADS}
    batch = any_pairs(run, 32)
    losses = [train_step(run, batch, SoftmaxLoss()).loss for _ in range(150)]
    assert losses[0] > 3
    assert losses[-1] < 0.2, losses[::10]
    for name in HEADS:
        assert not torch.equal(run.model.state_dict()[name], before[name])
    decayed, free = run.optimizer.param_groups
    assert set(HEADS) <= set(decayed["param_names"])
    assert not set(HEADS) & set(free["param_names"])


@pytest.mark.behaviour
def test_heads_are_stored_and_computed_in_16_bits(configure, train):
    half = ("train.precision=bfloat16", "optim.image_weights=bfloat16", "train.chunk_size=6")
    run = train(configure(MLP, *half, "train.steps=2", out="half"))
    assert run.model.image_head.weight.dtype == torch.bfloat16
    assert run.model.text_head.weight.dtype == torch.float32
    again = prepare(configure(MLP, *half, "train.steps=2", out="half"), World(), print)
    assert again.step == 2
    assert torch.equal(again.model.image_head.weight, run.model.image_head.weight)
    with pytest.raises(CheckpointError, match=r"model\.projection was 'mlp', is 'linear'"):
        train(configure(*half, "train.steps=2", out="half"))


@pytest.mark.property
def test_stored_features_stand_for_a_locked_tower_and_its_head(configure, train, tmp_path):
    first = train(configure(MLP, "train.steps=2", out="first"))
    first.model.eval()
    folder = Path(first.config.out) / "model"
    first.pretrained.save(folder)
    embed(pretrained.load(folder), open_training(configure()), tmp_path / "f", Job(what="images"))
    locked = (f"init={folder}", "train.lock=image", "augment.min_area=1", "train.steps=3")
    tower = train(configure(*locked, out="tower"))
    assert tower.config.model.projection == "mlp"
    stored = train(configure(*locked, f"data.image_features={tmp_path / 'f'}", out="stored"))
    assert torch.equal(tower.model.image_head.weight, first.model.image_head.weight)
    for name, tensor in stored.model.state_dict().items():
        torch.testing.assert_close(tensor, tower.model.state_dict()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.behaviour
def test_a_predictive_run_refuses_a_hidden_layer(configure):
    with pytest.raises(ConfigError, match=r"predicts captions: leave model\.projection out"):
        configure("loss.form=caption", MLP)
