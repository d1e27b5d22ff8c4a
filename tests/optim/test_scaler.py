"""Loss scaling: when the scale moves, what it does to gradients, how it is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bifocal.errors import CheckpointError, ConfigError
from bifocal.optim.scaler import LossScaler


@pytest.mark.behaviour
def test_it_doubles_after_enough_good_steps_and_halves_at_once():
    scaler = LossScaler(scale=8.0, patience=3)
    told = [True, True, True, True, True, False, True, True, True, False, False]
    scales = []
    for finite in told:
        scaler.update(finite)
        scales.append(scaler.scale)
    assert scales == [8, 8, 16, 16, 16, 8, 8, 8, 16, 8, 4]


@pytest.mark.behaviour
def test_it_stays_between_one_and_two_to_the_24():
    scaler = LossScaler(scale=2.0**24, patience=1)
    scaler.update(True)
    assert scaler.scale == 2.0**24
    scaler = LossScaler(scale=2.0)
    assert scaler.can_shrink
    for _ in range(2):
        scaler.update(False)
        assert scaler.scale == 1
        assert not scaler.can_shrink


@pytest.mark.property
def test_scaled_and_unscaled_gradients_are_the_gradients_bit_for_bit():
    # What bifocal does: the backward pass begins at the gradients of the features.
    x, model = torch.randn(8, 5), nn.Linear(5, 4)
    seeds = torch.randn(8, 4)
    model(x).backward(seeds)
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    scaler = LossScaler()
    model(x).backward(seeds * scaler.scale)
    scaler.unscale_([*model.parameters(), nn.Parameter(torch.ones(2))])
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, grad)


@pytest.mark.behaviour
def test_small_gradients_survive_float16():
    def gradient(scale: float) -> float:
        weight = nn.Parameter(torch.ones(()))
        hidden = weight.half() * torch.ones((), dtype=torch.float16)
        hidden.backward(torch.tensor(1e-9 * scale).half())
        scaler = LossScaler(scale)
        scaler.unscale_([weight])
        assert weight.grad is not None
        return weight.grad.item()

    assert gradient(1.0) == 0
    assert gradient(2.0**16) == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.property
def test_what_is_saved_goes_on_like_what_was_not():
    told = [True] * 5 + [False] + [True] * 7
    whole, first = LossScaler(patience=4), LossScaler(patience=4)
    for finite in told[:6]:
        whole.update(finite)
        first.update(finite)
    resumed = LossScaler(patience=4)
    resumed.load(first.state())
    for finite in told[6:]:
        whole.update(finite)
        resumed.update(finite)
        assert resumed.state() == whole.state()


@pytest.mark.behaviour
def test_wrong_numbers_are_refused():
    for scale in (0.0, 3.0, 0.5, 2.0**25, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="power of two"):
            LossScaler(scale=scale)
    with pytest.raises(ConfigError, match="at least 1 step"):
        LossScaler(patience=0)
    for state in ({}, {"scale": 3.0, "good_steps": 0}, {"scale": 4.0, "good_steps": -1}):
        with pytest.raises(CheckpointError, match="good_steps"):
            LossScaler().load(state)
