"""Memory of a plan, against what real passes and real steps hold."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from train import footprints

from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.optim.spread import is_spread, local
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.chunks import backward, embed_chunks
from bifocal.train.cost import Setup, setup_of
from bifocal.train.footprint import HEADROOM, TILES, footprint, largest_chunk
from bifocal.train.rehearsal import HeldBytes, Towers, rehearse
from bifocal.train.sharding import shard
from bifocal.train.trial import trial
from bifocal.types import Features
from bifocal.world import ALONE, World

BOUND = 0.15
"""Of the memory of a real step; workspaces of convolutions differ between processors."""


def ones(features: Features) -> Features:
    image, text, scale = features.image, features.text, features.logit_scale
    return Features(*map(torch.ones_like, (image, text, scale)))


def shallow(**settings) -> Towers:
    """Two blocks a tower, of which the last mixes one token: a rehearsal takes half a second."""
    model = zoo.config("ViT-nano/8")
    vision = model.vision.model_copy(update={"layers": 2})
    text = model.text.model_copy(update={"layers": 2})
    return Towers(model.model_copy(update={"vision": vision, "text": text}), 16, **settings)


@pytest.mark.property
@pytest.mark.parametrize(
    "override", ["", "train.gradient_checkpointing=true", "train.precision=bfloat16"]
)
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_a_rehearsal_holds_what_a_real_pass_holds(configure, model, override):
    config = configure(*filter(None, [override]), model=model)
    reading = setup_of(config).towers
    tried = trial(config, reading.length, ALONE)
    run, batch = tried.run, tried.batch
    statistics = RunningStatistics(run.model)
    with HeldBytes() as held:
        held.disregard([*run.model.parameters(), *run.model.buffers(), batch.images, batch.tokens])
        features = embed_chunks(run, [batch], statistics)
        activations = held.now
        backward(features, ones(features))
    rehearsed = rehearse(reading, len(batch.images))
    assert rehearsed.activations == pytest.approx(activations, rel=0.01)
    assert rehearsed.peak == pytest.approx(held.peak, rel=0.05)


@pytest.mark.property
@pytest.mark.parametrize("statistics", ["float32", "bfloat16", "float16"])
def test_what_a_run_keeps_is_counted_to_the_byte(configure, statistics):
    half = "train.precision=bfloat16", "optim.text_weights=bfloat16", "optim.average_decay=0.9"
    config = configure(f"optim.statistics={statistics}", *half)
    tried = trial(config, 16, ALONE)
    tried.step()
    model, state = tried.run.model, tried.run.optimizer.state.values()
    kept = footprint(setup_of(config))
    averages = sum(t.numel() * 4 for t in model.state_dict().values())
    assert kept.weights == averages + sum(t.nbytes for t in model.state_dict().values())
    assert kept.gradients == sum(p.grad.nbytes for p in model.parameters())
    assert kept.statistics == sum(t.nbytes for one in state for t in one.values() if t.ndim) + 8
    assert kept.batch == tried.batch.images.nbytes + tried.batch.tokens.nbytes


@pytest.mark.property
@pytest.mark.parametrize(
    ("loss", "side"),
    [
        (SoftmaxLoss(), 1024),
        (SigmoidLoss(), 1024),
        (TiledSoftmaxLoss(256), 256),
        (TiledSigmoidLoss(256), 256),
    ],
)
def test_losses_hold_the_tiles_that_are_counted(loss, side):
    pairs, width = 1024, 4
    image, text = torch.randn(2, pairs, width).unbind()
    features = Features(image, text, torch.tensor(1.0), torch.tensor(0.0))
    with HeldBytes() as held:
        held.disregard([image, text, features.logit_scale, features.logit_bias])
        loss.value_and_grad(features)
    assert 0.65 < held.peak / (TILES * 4 * side**2) < 1.1


@pytest.fixture(scope="module")
def steps() -> dict[str, dict[str, int]]:
    """Memory of real steps in a process of their own, measured and predicted."""
    if not os.access(footprints.FORGET, os.W_OK):
        pytest.skip(f"no {footprints.FORGET}: peaks of memory cannot be read here")
    # Every tensor is given back to the system when it is freed, so that what is seen is what the
    # step holds and not what the allocator keeps for later.
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-W", "error", footprints.__file__],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.property
def test_a_real_step_takes_the_memory_that_is_planned(steps):
    for name, case in steps.items():
        assert case["predicted"] == pytest.approx(case["measured"], rel=BOUND), name
    assert min(steps[kind]["activations"] for kind in ("vit", "resnet")) > 250e6
    for kind in ("vit", "resnet"):
        plain, checkpointed = steps[kind], steps[f"{kind}, checkpointing"]
        assert checkpointed["predicted"] < 0.8 * plain["predicted"]
        assert checkpointed["measured"] < 0.8 * plain["measured"]


@pytest.mark.property
@pytest.mark.usefixtures("unchecked_shapes")
def test_the_largest_chunk_fits_and_one_pair_more_does_not():
    setup = Setup(shallow(), batch_size=4096, devices=2)
    plain = replace(setup, tile=0)
    for one, memory in ((setup, 0.2e9), (plain, 0.5e9)):
        chunk = largest_chunk(one, memory)
        assert chunk is not None
        assert 2 < chunk < one.local
        fits = (footprint(replace(one, chunk_size=chunk + n)).peak for n in (0, 1))
        assert [peak <= memory * (1 - HEADROOM) for peak in fits] == [True, False]
    assert largest_chunk(plain, 80e9) == plain.local
    assert largest_chunk(plain, 0.1e9) is None
    few = Setup(shallow(), batch_size=20)
    assert (
        largest_chunk(few, (footprint(replace(few, chunk_size=7)).peak + 1) / (1 - HEADROOM)) == 7
    )


@pytest.mark.property
@pytest.mark.usefixtures("unchecked_shapes")
def test_memory_falls_with_what_is_meant_to_save_it():
    base = shallow(device="cuda")
    setup = Setup(base, batch_size=512)
    whole = footprint(setup)
    saving = [
        replace(setup, towers=replace(base, gradient_checkpointing=True)),
        replace(setup, towers=replace(base, precision="bfloat16")),
        replace(setup, towers=replace(base, patch_dropout=0.5)),
        replace(setup, towers=replace(base, lock="image")),
        replace(setup, chunk_size=64),
        replace(setup, devices=8),
    ]
    for one in saving:
        assert footprint(one).activations < 0.8 * whole.activations, one
    plain, tiled = (footprint(replace(setup, tile=side)) for side in (0, 128))
    assert plain.loss == plain.plain_loss == tiled.plain_loss == 16 * tiled.loss
    assert plain.comparing - tiled.comparing == plain.loss - tiled.loss
    locked = footprint(saving[3])
    assert locked.gradients < whole.gradients
    assert 2 * locked.gradients == locked.statistics


@pytest.mark.behaviour
def test_autocast_on_accelerators_normalises_in_float32():
    bytes_a_pair = {}
    for device, precision in itertools.product(("cpu", "cuda"), ("float32", "bfloat16")):
        reading = shallow(device=device, precision=precision)
        bytes_a_pair[device, precision] = rehearse(reading, 64).activations
    assert bytes_a_pair["cuda", "float32"] == bytes_a_pair["cpu", "float32"]
    assert bytes_a_pair["cpu", "bfloat16"] < bytes_a_pair["cuda", "bfloat16"]
    assert bytes_a_pair["cuda", "bfloat16"] < bytes_a_pair["cuda", "float32"]


@pytest.fixture
def eighth():
    """Stand as the second of eight processes of which the others do not exist."""
    torch.distributed.init_process_group("fake", rank=1, world_size=8, store=FakeStore())
    yield World(1, 8, torch.device("cpu"))
    torch.distributed.destroy_process_group()


@pytest.mark.property
def test_what_is_spread_is_counted_as_one_device_holds_it(eighth):
    towers = shallow()
    model = CLIP(towers.model)
    sizes = {name: p.nbytes for name, p in model.named_parameters() if p.ndim >= 2}
    blocks = [
        sum(
            size
            for name, size in sizes.items()
            if name.startswith(f"{tower}transformer.resblocks.0.")
        )
        for tower in ("visual.", "")
    ]
    around = sum(size for name, size in sizes.items() if name.startswith("token_embedding"))
    around += sum(s for n, s in sizes.items() if n.startswith("visual.") and "block" not in n)
    shard(model, eighth)
    here = sum(local(parameter).nbytes for parameter in model.parameters())
    whole = footprint(Setup(towers, 64, devices=8))
    spread = footprint(Setup(towers, 64, devices=8, shard=True))
    assert spread.statistics == pytest.approx(2 * here, rel=1e-3)
    assert spread.statistics < 0.3 * whole.statistics
    # One block's gradients are whole at a time, two blocks and what is around all of them.
    assert spread.gradients == pytest.approx(here + max(blocks), rel=1e-3)
    assert spread.weights == pytest.approx(here + around + 2 * max(blocks), rel=1e-3)
    assert spread.peak < whole.peak


@pytest.mark.property
@pytest.mark.parametrize("lock", ["image", "text"])
def test_a_locked_tower_is_not_spread(eighth, lock):
    towers = shallow(lock=lock)
    model = towers.build()
    shard(model, eighth)
    spread = {name for name, p in model.named_parameters() if is_spread(p)}
    assert spread
    kept = set(map(id, model.tower_parameters(lock)))
    assert not any(id(p) in kept for name, p in model.named_parameters() if name in spread)
    counted = footprint(Setup(towers, 64, devices=8, shard=True))
    here = sum(local(p).nbytes for p in model.parameters() if p.requires_grad)
    assert counted.statistics == pytest.approx(2 * here, rel=2e-3), "but for rows that are left"
    whole = sum(p.nbytes for p in model.tower_parameters(lock))
    assert counted.weights > whole + here
