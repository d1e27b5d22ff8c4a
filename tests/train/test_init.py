"""Runs that start from the weights of another, at its size or at a larger one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bifocal import pretrained
from bifocal.errors import CheckpointError, ConfigError
from bifocal.model.resize import stretched
from bifocal.train.prepare import prepare
from bifocal.world import World


@pytest.fixture
def trained(configure, train):
    """Return a function that trains a tiny model and returns its folder."""

    def go(model: str) -> Path:
        config = configure("train.steps=2", model=model, out=f"first-{model}")
        run = train(config)
        run.model.eval()
        run.pretrained.save(Path(config.out) / "model")
        return Path(config.out)

    return go


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_a_run_starts_from_another_bit_for_bit(configure, trained, model):
    first = trained(model)
    run = prepare(configure(f"init={first}", "seed=5", model=model, out="second"), World(), print)
    before = pretrained.load(first)
    state = run.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.model.state_dict().items())
    assert run.tokenizer.merges == before.tokenizer.merges
    assert run.preprocess == before.preprocess
    assert (run.step, run.cursor.position) == (0, 0)


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_a_larger_picture_says_much_the_same(configure, trained, train, model):
    first = trained(model)
    options = (f"init={first}", "model.image_size=64", "train.steps=1")
    run = prepare(configure(*options, model=model, out="larger"), World(), print)
    assert run.preprocess.image_size == run.config.model.vision.image_size == 64
    small = pretrained.load(first)
    smooth = torch.rand(4, 3, 4, 4)
    pictures = [
        torch.nn.functional.interpolate(smooth, (side, side), mode="bicubic") for side in (32, 64)
    ]
    run.model.eval()
    with torch.no_grad():
        old, new = small.model.encode_image(pictures[0]), run.model.encode_image(pictures[1])
        other = new.roll(1, dims=0)
    assert (old * new).sum(dim=1).mean() > (old * other).sum(dim=1).mean()
    # And the run goes to its end, resumable like any other.
    train(run.config)
    again = prepare(run.config, World(), print)
    assert again.step == 1


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_locked_tower_stays_bit_for_bit(configure, trained, train, model, tower):
    first = trained(model)
    options = (f"init={first}", f"train.lock={tower}", "train.steps=3", "train.chunk_size=5")
    run = train(configure(*options, model=model, out="locked"))
    before = pretrained.load(first).model.state_dict()
    changed = {
        name
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    images = {name for name in before if name.startswith("visual.")}
    texts = before.keys() - images - {"logit_scale"}
    locked, free = (images, texts) if tower == "image" else (texts, images)
    assert not changed & locked
    assert "logit_scale" in changed
    assert free <= changed, free - changed


@pytest.mark.behaviour
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_locked_tower_is_not_rounded(configure, trained, tower):
    options = ("train.precision=bfloat16", f"train.lock={tower}", f"init={trained('vit')}")
    with pytest.raises(ConfigError, match=f"leave optim.{tower}_weights at float32"):
        configure(*options, f"optim.{tower}_weights=bfloat16")


@pytest.mark.behaviour
def test_before_the_first_step_the_average_is_the_model(configure, trained):
    first = trained("vit")
    run = prepare(configure(f"init={first}", "optim.average_decay=0.9"), World(), print)
    before = pretrained.load(first).model.state_dict()
    for name, tensor in run.for_evaluation().model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.behaviour
def test_nothing_is_locked_without_a_model(configure):
    with pytest.raises(ConfigError, match="set init to a trained model"):
        configure("train.lock=image")


@pytest.mark.golden
def test_stretching_keeps_what_is_flat_and_what_is_linear():
    # Origin: interpolation reproduces linear functions away from the border.
    torch.testing.assert_close(stretched(torch.full((17, 3), 2.0), 65), torch.full((65, 3), 2.0))
    ramp = torch.arange(8.0).repeat(8, 1).reshape(64, 1)
    wide = stretched(torch.cat([torch.zeros(1, 1), ramp]), 257)[1:].reshape(16, 16)
    expected = (torch.arange(16.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(wide[8, 4:12], expected[4:12])
    torch.testing.assert_close(wide[0], wide[15])


@pytest.mark.behaviour
def test_what_does_not_fit_is_said(configure, trained):
    first = trained("vit")
    with pytest.raises(ConfigError, match=r"17 tokens.* 16 positions.*context_length to 16"):
        prepare(
            configure(f"init={first}", "model.text.context_length=17", out="long"), World(), print
        )
    with pytest.raises(CheckpointError, match="do not fit"):
        prepare(configure(f"init={first}", "model.text.layers=2", out="deep"), World(), print)
    with pytest.raises(ConfigError, match=r"leave tokenizer\.path out"):
        prepare(configure(f"init={first}", "tokenizer.path=some.json", out="words"), World(), print)
    with pytest.raises(CheckpointError, match="no model in"):
        configure("init=nowhere", out="none")
