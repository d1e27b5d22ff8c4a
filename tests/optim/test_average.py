"""The moving average: its formula, lending it to a model, keeping it in a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bifocal.errors import CheckpointError, ConfigError
from bifocal.model.clip import CLIP
from bifocal.optim.average import Average


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def stir(model: nn.Module) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
            else:
                tensor.add_(1)


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_holds(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.property
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_it_is_the_weighted_mean_of_all_that_came_and_of_nothing_before(decay):
    model = small()
    average = Average(model, decay)
    came = []
    for step in range(1, 31):
        stir(model)
        came.append(bits(model))
        average.update(model, step)
    weights = torch.tensor([decay ** (30 - n) for n in range(1, 31)], dtype=torch.float64)
    for name, parameter in model.named_parameters():
        stacked = torch.stack([state[name] for state in came]).double()
        expected = torch.tensordot(weights, stacked, 1) / weights.sum()
        got = average.tensors()[f"average/{name}"]
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
        assert got.data_ptr() != parameter.data_ptr()
    for name, buffer in model.named_buffers():
        assert torch.equal(average.tensors()[f"average/{name}"], buffer)


@pytest.mark.behaviour
def test_another_model_is_given_the_averages():
    model, other = small(), small().bfloat16()
    average = Average(model, 0.9)
    for step in range(1, 4):
        stir(model)
        average.update(model, step)
    own = bits(model)
    other.load_state_dict(average.weights())
    averages = {k.removeprefix("average/"): t for k, t in average.tensors().items()}
    assert_holds(model, own)
    assert_holds(
        other, {name: averages[name].to(t.dtype) for name, t in other.state_dict().items()}
    )


@pytest.mark.property
def test_averages_of_half_precision_weights_are_float32():
    model = nn.Linear(64, 64, bias=False).bfloat16()
    average = Average(model, 0.5)
    with torch.no_grad():
        for step, value in enumerate((1.0, 1.0 + 2**-7), 1):
            model.weight.fill_(value)
            average.update(model, step)
    got = average.tensors()["average/weight"]
    assert got.unique().item() == pytest.approx((0.5 + 1 + 2**-7) / 1.5, rel=1e-6)


@pytest.mark.property
def test_a_resumed_average_goes_on_as_if_nothing_had_happened(tiny):
    model = CLIP(tiny)
    whole, first = Average(model, 0.99), Average(model, 0.99)
    for step in range(1, 6):
        stir(model)
        whole.update(model, step)
        if step <= 3:
            first.update(model, step)
        if step == 3:
            stored = {name: tensor.clone() for name, tensor in first.tensors().items()}
            resumed = Average(CLIP(tiny, seed=1), 0.99)
            resumed.load({**stored, "logit_scale": torch.zeros(())})
        if step > 3:
            resumed.update(model, step)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name


@pytest.mark.behaviour
def test_tensors_that_do_not_fit_are_refused():
    average = Average(small(), 0.9)
    fitting = average.tensors()
    wrong = {**fitting, "average/0.weight": torch.zeros(3, 5)}
    for tensors in ({}, wrong, {**fitting, "average/more": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="resume with the model"):
            average.load(tensors)


@pytest.mark.behaviour
@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        Average(small(), decay)
