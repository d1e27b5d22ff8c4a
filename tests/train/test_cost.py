"""Parameters, FLOPs and time of a plan, against counts by hand and a real backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode

from bifocal.errors import ConfigError
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.model import zoo
from bifocal.train.chunks import backward
from bifocal.train.cost import Setup, days, flops, pairs_per_second, parameters
from bifocal.train.rehearsal import Towers
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World


def towers(name: str, **settings) -> Towers:
    model = zoo.config(name)
    return Towers(model, **{"length": model.text.context_length, **settings})


def ones(features: Features) -> Features:
    image, text, scale = features.image, features.text, features.logit_scale
    return Features(*map(torch.ones_like, (image, text, scale)))


def transformer(tokens: int, width: int, layers: int) -> int:
    """Four width² matrices for attention, eight for the MLP; scores and their mixture.

    Of the last block's tokens one is mixed; of the others it needs keys and values.
    """
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    last = (2 * tokens + 10) * width**2 + 2 * tokens * width
    return 2 * ((layers - 1) * block + last)


def resnet50() -> int:
    stem = 112**2 * 9 * (3 * 32 + 32 * 32 + 32 * 64)
    total, inplanes = stem, 64
    for planes, blocks, size, stride in ((64, 3, 56, 1), (128, 4, 28, 2), (256, 6, 14, 2)):
        total += stage(inplanes, planes, blocks, size, stride)
        inplanes = 4 * planes
    total += stage(inplanes, 512, 3, 7, 2)
    pool = 2 * 50 * 2048**2 + 2048**2 + 2 * 50 * 2048 + 2048 * 1024
    return 2 * (total + pool)


def stage(inplanes: int, planes: int, blocks: int, size: int, stride: int) -> int:
    """Multiply-adds; only the first block reads a larger picture, and has a downsample."""
    read, written = (size * stride) ** 2, size**2
    first = read * (inplanes * planes + 9 * planes**2) + written * 4 * planes * (planes + inplanes)
    return first + (blocks - 1) * written * (8 * planes**2 + 9 * planes**2)


@pytest.mark.property
@pytest.mark.parametrize("name", zoo.names())
def test_parameters_are_those_of_the_named_model(name):
    # Those of the published models are golden numbers in tests/model/test_architectures.py.
    counted, size = parameters(towers(name)), zoo.measure(zoo.config(name))
    assert (counted.image, counted.total) == (size.visual_parameters, size.total_parameters)


@pytest.mark.golden
def test_flops_are_those_counted_by_hand():
    # Origin: the formulas above; the patch convolution and the projections beside them.
    text = transformer(77, 512, 12) + 2 * 512 * 512
    patches = 2 * 49 * 3 * 32**2 * 768
    for name, image in (
        ("ViT-B/32", patches + transformer(50, 768, 12) + 2 * 768 * 512),
        ("RN50", resnet50()),
    ):
        counted = flops(Setup(towers(name), batch_size=4096, devices=8, chunk_size=100))
        assert counted.image == pytest.approx(image, rel=0.02)
        assert counted.text == pytest.approx(text, rel=0.02)
        assert counted.backward == 2 * (counted.image + counted.text)
        assert counted.cached == counted.image + counted.text
        assert counted.recomputed == 0
    short = flops(Setup(towers("ViT-B/32", length=20), batch_size=8))
    assert short.text == pytest.approx(transformer(20, 512, 12) + 2 * 512 * 512, rel=0.02)
    assert short.cached == 0


@pytest.mark.property
@pytest.mark.parametrize(("name", "lock"), [("ViT-nano/8", None), ("RN-nano", "image")])
def test_a_real_backward_pass_takes_the_flops_that_are_planned(name, lock):
    seen = {}
    for checkpointing in (False, True):
        reading = towers(name, gradient_checkpointing=checkpointing, lock=lock)
        with torch.device("meta"):
            model = reading.build()
            images, tokens, _ = reading.inputs(2)
        with FlopCounterMode(display=False) as counter:
            features = model.features(images.float(), tokens)
            backward(features, ones(features))
        seen[checkpointing] = counter.get_total_flops() / 2
        counted = flops(Setup(reading, batch_size=2))
        # The first layer has no gradient of its input.
        assert seen[checkpointing] == pytest.approx(counted.total - counted.loss, rel=0.03)
    assert seen[True] - seen[False] == pytest.approx(counted.recomputed, rel=0.03)


@pytest.mark.property
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    "loss", [SoftmaxLoss(), SigmoidLoss(), TiledSoftmaxLoss(8), TiledSigmoidLoss(8)]
)
def test_a_loss_takes_the_flops_that_are_planned(loss, devices):
    reading, local = towers("ViT-nano/8"), 16
    setup = Setup(
        reading,
        batch_size=devices * local,
        devices=devices,
        form="sigmoid" if isinstance(loss, SigmoidLoss | TiledSigmoidLoss) else "softmax",
        tile=8 if isinstance(loss, TiledSoftmaxLoss | TiledSigmoidLoss) else 0,
    )
    image, text = torch.randn(2, local, reading.model.embed_dim).unbind()
    given = Features(image, text, torch.tensor(1.0), torch.tensor(0.0))
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **known: 2 * a[0] * a[1] * b[1]}
    for sharing in (None, Sharing(torch.arange(local) // 2, torch.arange(local))):
        counting = FlopCounterMode(display=False, custom_mapping=in_place)
        with world_of(devices) as world, counting:
            loss.value_and_grad(given, world, sharing)
        planned = flops(setup).loss * local
        assert counting.get_total_flops() == pytest.approx(planned, rel=0.05)


@contextmanager
def world_of(devices: int) -> Iterator[World]:
    """Stand as the first of processes of which the others do not exist."""
    if devices == 1:
        yield ALONE
        return
    torch.distributed.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    try:
        yield World(0, devices, torch.device("cpu"))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.property
def test_stored_features_spare_the_image_tower():
    locked = towers("ViT-nano/8", lock="image")
    read, spared = (
        flops(Setup(t, batch_size=8)) for t in (locked, replace(locked, stored_images=True))
    )
    assert read.image > spared.image == 0
    assert spared.total == read.total - read.image


@pytest.mark.property
def test_time_follows_from_the_rate():
    setup = Setup(towers("ViT-B/32"), batch_size=1024, devices=4)
    counted = flops(setup)
    speed = pairs_per_second(setup, counted, rate=counted.total * 100.0)
    assert speed == pytest.approx(400)
    assert days(400 * 86_400 * 3.0, speed) == pytest.approx(3)


@pytest.mark.behaviour
def test_setups_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="100 pairs does not divide among 3 devices"):
        Setup(towers("ViT-nano/8"), batch_size=100, devices=3)
    with pytest.raises(ConfigError, match="captions of 33 tokens for a context of 32"):
        Setup(towers("ViT-nano/8", length=33), batch_size=100)
