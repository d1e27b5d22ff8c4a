"""Which patches a step reads: as many as asked for, any, and always the same."""

from __future__ import annotations

import pytest
import torch

from bifocal.errors import ConfigError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.model.clip import CLIP
from bifocal.train.patch_dropout import kept_patches
from bifocal.train.prepare import prepare
from bifocal.train.step import train_step
from bifocal.world import World


@pytest.mark.property
def test_patches_are_a_function_of_seed_and_place():
    positions = torch.arange(1000, 1064)
    kept = kept_patches(positions, 49, 0.5, seed=3)
    assert kept.shape == (64, 24)
    assert torch.equal(kept, kept.sort(dim=1).values)
    assert all(len(set(row)) == 24 for row in kept.tolist())
    assert torch.equal(kept[10:20], kept_patches(positions[10:20], 49, 0.5, seed=3))
    for seed in (4, 2**23 + 3, 2**63 + 3, -1):
        assert not torch.equal(kept, kept_patches(positions, 49, 0.5, seed))


@pytest.mark.property
def test_every_patch_is_kept_equally_often():
    kept = kept_patches(torch.arange(20_000), 16, 0.75, seed=0)
    counts = torch.bincount(kept.flatten(), minlength=16).double()
    # Each of 20,000 pictures keeps a patch with probability 1/4: five standard deviations.
    assert (counts - 5000).abs().max() < 5 * (20_000 * 0.25 * 0.75) ** 0.5
    pairs = torch.bincount(kept[:, 0] * 16 + kept[:, 1], minlength=256)
    assert (pairs > 0).sum() > 80, "neighbours must not always come together"


@pytest.mark.property
def test_keeping_all_patches_is_reading_the_picture(tiny_vit):
    model = CLIP(tiny_vit).eval()
    size = tiny_vit.vision.image_size
    images = torch.randn(3, 3, size, size)
    everything = kept_patches(torch.arange(3), tiny_vit.vision.patches, 0.0, seed=0)
    with torch.no_grad():
        assert torch.equal(model.encode_image(images, everything), model.encode_image(images))


@pytest.mark.behaviour
def test_a_step_that_leaves_patches_out_is_the_same_in_chunks(configure):
    losses = []
    for size in (0, 5):
        config = configure("train.patch_dropout=0.5", f"train.chunk_size={size}")
        run = prepare(config, World(), print)
        batches = iter(run.loader())
        losses.append([train_step(run, next(batches), SoftmaxLoss()).loss for _ in range(3)])
        batches.close()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    plain = prepare(configure(out="plain"), World(), print)
    batches = iter(plain.loader())
    assert train_step(plain, next(batches), SoftmaxLoss()).loss != losses[0][0]
    batches.close()


@pytest.mark.behaviour
def test_a_resnet_has_no_patches(configure):
    with pytest.raises(ConfigError, match="needs a Vision Transformer"):
        configure("train.patch_dropout=0.5", model="resnet")
