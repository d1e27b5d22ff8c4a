"""Runs on the devices that are there: what they learn, how they go on, what they leave behind.

On a CPU alone these say that a run is the same run twice; a CUDA device is held against the CPU.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image
from real_worlds import run_world
from rich.console import Console
from train import splitting

from bifocal import pretrained
from bifocal.cli.train import train_run
from bifocal.train.config import RunConfig
from bifocal.train.objective import loss_of
from bifocal.train.prepare import prepare
from bifocal.train.step import train_step
from bifocal.world import World, pick_device

CUDA = torch.cuda.device_count()
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="there is no CUDA device")),
]
STEPS = 8
IN_FULL = {
    "plain": ("loss.tile=0",),
    "chunks": ("train.chunk_size=5", "train.gradient_checkpointing=true", "loss.tile=7"),
    "sigmoid": ("loss.form=sigmoid", "model.init_logit_bias=-3", "loss.sharing=true"),
    "options": ("optim.max_grad_norm=1", "optim.max_update_rms=1", "optim.average_decay=0.9"),
}
IN_HALF = {
    "bfloat16": ("train.precision=bfloat16", "optim.statistics=bfloat16"),
    "float16": ("train.precision=float16", "optim.statistics=float16"),
    "weights": (
        *("train.precision=bfloat16", "optim.statistics=float16"),
        *("optim.text_weights=bfloat16", "optim.image_weights=bfloat16"),
    ),
}


def world(device: str) -> World:
    return World(device=pick_device(device))


def losses(config: RunConfig, device: str) -> list[float]:
    run = prepare(config, world(device), print)
    batches = iter(run.loader())
    found = [train_step(run, next(batches), loss_of(config)) for _ in range(STEPS)]
    batches.close()
    assert all(p.device.type == device for p in run.model.parameters())
    assert run.updates >= STEPS - 4, "float16 may leave out some until its scale fits"
    return [step.loss for step in found]


@pytest.mark.property
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", ["vit", "resnet"])
@pytest.mark.parametrize("options", IN_FULL)
def test_a_device_learns_what_a_cpu_learns(configure, device, model, options):
    config = configure(*IN_FULL[options], model=model)
    assert losses(config, device) == pytest.approx(losses(config, "cpu"), rel=2e-3)


@pytest.mark.property
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", IN_HALF)
def test_sixteen_bits_learn_about_the_same(configure, device, options):
    in_full = losses(configure(), "cpu")
    assert losses(configure(*IN_HALF[options]), device) == pytest.approx(in_full, rel=0.05)


@pytest.mark.behaviour
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_on_and_leaves_a_model_that_any_device_reads(configure, device):
    options = (f"train.device={device}", "optim.statistics=float16", "optim.average_decay=0.5")
    config = configure(*options, "train.deterministic=true")
    ended = []
    for _ in range(2):
        run = train_run(config, Console(quiet=True), world(device)).run
        ended.append({name: tensor.cpu() for name, tensor in run.model.state_dict().items()})
        shutil.rmtree(f"{config.out}/checkpoints/step-{STEPS:08d}")  # the next one goes on from 6
    torch.testing.assert_close(*ended, rtol=0, atol=0)
    clips = [pretrained.load(f"{config.out}/model", place) for place in ("cpu", device)]
    pictures = [Image.new("RGB", (40, 32), color) for color in ("red", "blue")]
    for read in ("encode_text", "encode_image"):
        given = ["a red circle", "two"] if read == "encode_text" else pictures
        here, there = (getattr(clip, read)(given).cpu() for clip in clips)
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


class Order:
    """A hook that asks whether sums are taken in an order that is always the same."""

    def __init__(self) -> None:
        self.found: set[bool] = set()

    def on_step(self, run, metrics) -> None:
        self.found.add(torch.are_deterministic_algorithms_enabled())

    def on_evaluation(self, run, metrics) -> None:
        pass

    def on_message(self, message) -> None:
        pass


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_an_order_that_is_always_the_same_is_that_of_cpus_and_left_behind(configure, model):
    ended = []
    for wanted in (False, True):
        order, options = Order(), ("train.patch_dropout=0.5",) if model == "vit" else ()
        more = (f"train.deterministic={str(wanted).lower()}", "loss.sharing=true", *options)
        config = configure(*more, model=model, out=str(wanted))
        run = train_run(config, Console(quiet=True), extra=[order]).run
        assert order.found == {wanted}
        assert not torch.are_deterministic_algorithms_enabled()
        ended.append(run.model.state_dict())
    torch.testing.assert_close(*ended, rtol=0, atol=0)


@pytest.mark.property
@pytest.mark.skipif(not CUDA, reason="there is no CUDA device")
def test_splits_on_a_device_give_the_gradients_of_a_cpu():
    splitting.check_vit(world("cuda"))
    splitting.check_chunks(world("cuda"), "resnet")


@pytest.mark.property
@pytest.mark.skipif(CUDA < 2, reason="NCCL needs a device a process, and there are not two")
def test_splits_over_devices_give_the_gradients_of_a_cpu(tmp_path):
    for said in run_world(2, tmp_path, splitting.main, "cuda"):
        assert "compared" in said
