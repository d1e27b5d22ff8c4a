"""Clipped updates (StableAdamW) against their formula, and against none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bifocal.optim.adamw import AdamW

SETTINGS: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}
FORMATS = ["float32", "bfloat16", "float16"]


def stable_adamw(weight: Tensor, grads: list[Tensor], lr: float, limit: float) -> Tensor:
    """Return the weight after steps of the formulas in adamw.py, in float64."""
    beta1, beta2 = SETTINGS["betas"]
    eps, decay = SETTINGS["eps"], SETTINGS["weight_decay"]
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, grad in enumerate(grads, 1):
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad**2
        true = second / (1 - beta2**step)
        rms = (grad**2 / true.clamp(min=eps**2)).mean().sqrt().item()
        rate = lr / max(1.0, rms / limit)
        direction = first / (1 - beta1**step) / (true.sqrt() + eps)
        weight = weight - rate * (decay * weight + direction)
    return weight


@pytest.mark.parity
@pytest.mark.parametrize(
    ("statistics", "tolerance"), [("float32", 3e-5), ("bfloat16", 1e-2), ("float16", 2e-3)]
)
@pytest.mark.parametrize("shape", [(40, 30), (30,), ()])
def test_clipped_updates_are_those_of_the_formula(statistics, tolerance, shape):
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=generator) for _ in range(20)]
    grads += [30 * grad for grad in grads[:5]]
    weight = nn.Parameter(torch.randn(shape, generator=generator))
    begun = weight.detach().clone()
    optimizer = AdamW(
        [("weight", weight)], lr=0.01, statistics=statistics, max_update_rms=0.9, **SETTINGS
    )
    for grad in grads:
        weight.grad = grad
        optimizer.step()
    expected = stable_adamw(begun.double(), [grad.double() for grad in grads], 0.01, 0.9)
    moved = (expected - begun).norm()
    assert (weight.detach().double() - expected).norm() < tolerance * moved
    unclipped = stable_adamw(begun.double(), [grad.double() for grad in grads], 0.01, 1e9)
    assert (unclipped - expected).norm() > 0.02 * moved


@pytest.mark.property
@pytest.mark.parametrize("statistics", FORMATS)
def test_a_limit_that_is_not_reached_changes_nothing(statistics):
    moved = []
    for limit in (None, 100.0):
        named = [(name, nn.Parameter(torch.ones(20, 30))) for name in ("one", "two")]
        optimizer = AdamW(named, lr=0.01, statistics=statistics, max_update_rms=limit, **SETTINGS)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            for _, parameter in named:
                parameter.grad = torch.randn(20, 30, generator=generator)
            optimizer.step()
        moved.append(torch.stack([parameter.detach() for _, parameter in named]))
    assert torch.equal(*moved)


@pytest.mark.property
def test_only_the_tensor_that_jumps_is_slowed():
    calm, jumping = (nn.Parameter(torch.zeros(50, 50)) for _ in range(2))
    pairs = [("calm", calm), ("jumping", jumping)]
    optimizer = AdamW(pairs, lr=0.01, betas=(0.0, 0.999), max_update_rms=1.0)
    for step in range(100):
        calm.grad, jumping.grad = torch.ones(50, 50), torch.ones(50, 50)
        if step == 99:
            jumping.grad *= 20
        before = calm.detach().clone(), jumping.detach().clone()
        optimizer.step()
    slow, moved = (jumping - before[1]).abs().max(), (calm - before[0]).abs().max()
    # Adam's own step is 20 / √((99 + 400) / 100) = 8.95 times as long as the calm one's.
    assert moved.item() == pytest.approx(0.01, rel=1e-3)
    assert slow.item() == pytest.approx(0.01, rel=1e-2)
