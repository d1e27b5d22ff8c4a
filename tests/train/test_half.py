"""Runs whose numbers take 16 bits, and runs that are measured by the average of their weights."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from bifocal import pretrained
from bifocal.cli.train import train_run
from bifocal.errors import ConfigError, TrainingError
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.model.clip import CLIP
from bifocal.train import loop, step
from bifocal.train.prepare import prepare
from bifocal.train.rejected import REJECTED, RejectedLog
from bifocal.train.step import count_step, train_step
from bifocal.world import ALONE, World

HALF = (
    "optim.statistics=float16",
    "optim.image_weights=bfloat16",
    "optim.text_weights=bfloat16",
    "train.precision=bfloat16",
)


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
@pytest.mark.usefixtures("unchecked_shapes")
def test_sixteen_bits_train_like_thirty_two(configure, model):
    losses = {}
    for name, options in (("full", ()), ("half", HALF), ("float16", ("train.precision=float16",))):
        config = configure(*options, "train.steps=40", "optim.lr=3e-3", model=model)
        run = prepare(config, World(), print)
        batches = iter(run.loader())
        losses[name] = [train_step(run, next(batches), SoftmaxLoss()).loss for _ in range(40)]
        batches.close()
    first, last = (sum(losses["full"][n] for n in part) / 5 for part in (range(5), range(35, 40)))
    assert last < first - 0.2, "there must be something to learn"
    for name in ("half", "float16"):
        mean = sum(losses[name][35:]) / 5
        assert mean == pytest.approx(last, abs=0.25 * (first - last)), name


@pytest.mark.golden
def test_bytes_of_a_parameter(configure):
    # Origin: 4 weight + 4 gradient + 8 averages; averages in 16 bits; all in 16 bits (paper 2.5).
    expected = {
        (): 16,
        ("optim.statistics=float16",): 12,
        HALF: 8,
    }
    for options, wanted in expected.items():
        run = prepare(configure(*options), World(), print)
        batches = iter(run.loader())
        train_step(run, next(batches), SoftmaxLoss())
        batches.close()
        matrix = run.model.text_projection
        assert matrix.grad is not None
        averages = [t for t in run.optimizer.state[matrix].values() if t.ndim]
        held = sum(t.numel() * t.element_size() for t in (matrix, matrix.grad, *averages))
        assert held / matrix.numel() == wanted


@pytest.mark.behaviour
def test_overflow_in_float16_is_mended_and_not_counted(configure):
    run = prepare(configure("train.precision=float16", "train.steps=40"), World(), print)
    assert run.scaler is not None
    run.scaler.scale = 2.0**24
    batches = iter(run.loader())
    applied = [train_step(run, next(batches), Loud()).applied for _ in range(24)]
    batches.close()
    assert not applied[0]
    assert applied[-1]
    assert run.scaler.scale < 2.0**24
    assert run.updates == sum(applied)
    assert run.rejected == 0


@pytest.mark.behaviour
def test_overflow_is_not_counted_as_it_happens(configure):
    run = prepare(configure("train.precision=float16"), World(), print)
    assert run.scaler is not None
    run.scaler.scale = 2.0**24
    batches = iter(run.loader())
    assert not train_step(run, next(batches), Loud()).applied
    batches.close()
    assert run.rejected == 0


@pytest.mark.behaviour
def test_what_no_scale_mends_is_counted_and_every_step_of_it_written_out(configure, tmp_path):
    config = configure("train.precision=float16", "train.max_rejected=3", "train.steps=9")
    run = prepare(config, World(), print)
    assert run.scaler is not None
    run.scaler.scale = 2.0
    hooks = [RejectedLog(tmp_path, run)]
    with pytest.raises(TrainingError, match=r"last 3 steps up to 4 .*rejected\.jsonl"):
        loop.train(run, tmp_path, Steep(), hooks, lambda run, last: {})
    rows = [json.loads(line) for line in (tmp_path / REJECTED).read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4], "the first is mended, by a scale of 1"
    assert run.scaler.scale == 1


@pytest.mark.behaviour
def test_steps_that_no_scale_mends_end_a_streak_of_good_ones(configure):
    run = prepare(configure("train.precision=float16"), World(), print)
    assert run.scaler is not None
    run.scaler.scale, run.scaler.patience = 1.0, 3
    for good in (True, True, False, True):
        count_step(run, loss=1.0, applied=good)
    assert (run.scaler.scale, run.scaler.good_steps) == (1.0, 1)


@dataclass(frozen=True)
class Two(World):
    """A world of two processes that have the same gradients."""

    size: int = 2
    sent: list[torch.dtype] = field(default_factory=list)

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sent.append(tensor.dtype)
        return tensor.mul_(2)


@pytest.mark.behaviour
def test_gradients_in_16_bits_are_summed_over_processes_in_32(monkeypatch):
    monkeypatch.setattr(step, "BUCKET", 1)  # each by itself
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    model = nn.ParameterList(torch.ones(3, dtype=dtype) for dtype in dtypes)
    for parameter in model:
        parameter.grad = torch.full_like(parameter, 0.75)
    world = Two()
    step.sum_gradients(model, world)
    assert world.sent == [torch.float32] * 3 + [torch.float64]
    for parameter in model:
        assert parameter.grad.dtype == parameter.dtype
        assert parameter.grad.tolist() == [1.5] * 3


@pytest.mark.property
def test_gradients_of_embeddings_in_bfloat16_are_added_up_in_float32(tiny_vit):
    model = CLIP(tiny_vit)
    tokens = torch.randint(1, 598, (4096, 6))
    tokens[:, 0], tokens[:, -1] = 598, 599
    seeds = torch.randn(4096, tiny_vit.embed_dim) + 1
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        half = copy.deepcopy(model)
        for table in (half.token_embedding.weight, half.positional_embedding):
            table.data = table.data.bfloat16().to(dtype)
        half.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            half.read_text(tokens).float().backward(seeds)
        found.append((half.token_embedding.weight.grad, half.positional_embedding.grad))
    for plain, short in zip(*found, strict=True):
        assert (short.float() - plain).norm() < 0.02 * plain.norm()


class Loud(SoftmaxLoss):
    """A loss whose gradients leave float16's range when they are scaled."""

    def value(self, features, sharing=None):
        return 3e3 * super().value(features, sharing)


class Steep(SoftmaxLoss):
    """A finite loss whose gradients are infinite."""

    def value_and_grad(self, features, world=ALONE, sharing=None):
        loss, grads = super().value_and_grad(features, world, sharing)
        return loss, replace(grads, text=grads.text * math.inf)


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_the_average_is_what_is_evaluated_and_saved(configure, model):
    config = configure("optim.average_decay=0.5", model=model)
    trained = train_run(config, Console(quiet=True))
    saved = pretrained.load(config.out).model.state_dict()
    last = prepare(config, World(), print)
    assert last.average is not None
    own, averages = last.model.state_dict(), last.average.tensors()
    for name, tensor in saved.items():
        assert torch.equal(tensor, averages[f"average/{name}"])
        assert torch.equal(tensor, trained.run.model.state_dict()[name])
    assert not torch.equal(saved["text_projection"], own["text_projection"])


@pytest.mark.behaviour
def test_the_first_average_is_what_the_first_step_made(configure):
    run = prepare(configure("optim.average_decay=0.9"), World(), print)
    begun = run.model.text_projection.detach().clone()
    train_step(run, next(iter(run.loader())), SoftmaxLoss())
    assert run.average is not None
    averages = run.average.tensors()
    for name, parameter in run.model.named_parameters():
        torch.testing.assert_close(averages[f"average/{name}"], parameter.detach())
    assert (run.model.text_projection - begun).abs().max() > 1e-4


@pytest.mark.behaviour
def test_half_weights_are_saved_and_used_in_float32(configure, train):
    config = configure(*HALF, "train.steps=2")
    run = train(config)
    assert run.model.text_projection.dtype == torch.bfloat16
    assert run.model.ln_final.weight.dtype == torch.float32
    loaded = pretrained.load(Path(config.out))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert torch.equal(loaded.model.text_projection, run.model.text_projection.float())
    assert loaded.encode_text(["a red circle"]).isfinite().all()


@pytest.mark.behaviour
def test_half_weights_need_a_half_precision(configure):
    with pytest.raises(ConfigError, match=r"bfloat16 need train\.precision=bfloat16 or float16"):
        configure("optim.text_weights=bfloat16")
