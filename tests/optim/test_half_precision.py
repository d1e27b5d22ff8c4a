"""What 16 bits must not lose: small changes, small numbers, and the minimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bifocal.optim.adamw import AdamW
from bifocal.optim.rounding import DROPPED, Noise

HALVES = ["bfloat16", "float16"]


def averages(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return exp_avg and exp_avg_sq in float64, however they are stored."""
    kept = {kind: tensor.double() for kind, tensor in state.items()}
    first = kept["exp_avg"] * kept.get("exp_avg_scale", torch.tensor(1.0))
    if "exp_avg_sq" in kept:
        return first, kept["exp_avg_sq"]
    return first, (kept["exp_avg_sqrt"] * kept["exp_avg_sqrt_scale"]).square()


def nearest(self: Noise, kind: str, begin: int, end: int, dtype: torch.dtype, device: Any):
    """Half of what is dropped, for everyone: rounding to nearest."""
    return torch.full((end - begin,), 2 ** (DROPPED[dtype] - 1), dtype=torch.int32)


FREEZING = {
    # Statistics of step 5000, the gradient from there on. √(exp_avg_sq) is 0.5 in both.
    "bfloat16": ({"exp_avg_sq": torch.full((64, 64), 0.25).bfloat16()}, 0.05),
    "float16": (
        {
            "exp_avg_sqrt": torch.full((64, 64), 2.0**14).half(),
            "exp_avg_scale": torch.tensor(2.0**-15),
            "exp_avg_sqrt_scale": torch.tensor(2.0**-15),
        },
        0.65,
    ),
}


@pytest.mark.property
@pytest.mark.parametrize("statistics", HALVES)
@pytest.mark.usefixtures("unchecked_shapes")
def test_squares_follow_the_gradient_where_rounding_to_nearest_freezes(statistics, monkeypatch):
    state, gradient = FREEZING[statistics]
    steps, found = 1000, {}
    expected = gradient**2 + (0.25 - gradient**2) * 0.999**steps
    for rounding in ("stochastic", "nearest"):
        if rounding == "nearest":
            monkeypatch.setattr(Noise, "bits", nearest)
        weight = nn.Parameter(torch.zeros(64, 64))
        optimizer = AdamW([("weight", weight)], statistics=statistics)
        dtype = getattr(torch, statistics)
        start = {"step": torch.tensor(5000.0), "exp_avg": torch.zeros(64, 64, dtype=dtype)}
        optimizer.state[weight] = start | {kind: t.clone() for kind, t in state.items()}
        weight.grad = torch.full((64, 64), gradient)
        weight.grad[0, 0] = 1.0  # keeps float16's scale where it is
        for _ in range(steps):
            optimizer.step()
        found[rounding] = averages(optimizer.state[weight])[1][1:].mean().item()
    assert found["stochastic"] == pytest.approx(expected, rel=0.01)
    assert found["nearest"] == pytest.approx(0.25, rel=0.001)


@pytest.mark.property
@pytest.mark.parametrize("statistics", HALVES)
@pytest.mark.parametrize("size", [1e-9, 1e-6, 1.0, 1e6])
def test_averages_are_those_of_float32_whatever_the_size_of_gradients(statistics, size):
    half, full = (nn.Parameter(torch.zeros(64, 64)) for _ in range(2))
    optimizers = [AdamW([("w", half)], statistics=statistics), AdamW([("w", full)])]
    # Elements differ by seven orders of magnitude, and all of them rise and fall by three.
    spread = torch.logspace(-7, 0, 64 * 64).reshape(64, 64)
    for step in range(60):
        noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(step))
        half.grad = full.grad = size * 10 ** (-abs(step - 30) / 10) * spread * noise
        for optimizer in optimizers:
            optimizer.step()
    first, second = averages(optimizers[0].state[half])
    expected, squares = averages(optimizers[1].state[full])
    # A rounding deviates by at most half a step, 2^-8 or 2^-11: sixty of them walk 0.03 or 0.004.
    # Relative to the root of the squares, as exp_avg crosses zero.
    tolerance = 0.08 if statistics == "bfloat16" else 0.01
    assert (second.sqrt() / squares.sqrt() - 1).abs().max() < tolerance
    assert ((first - expected).abs() / squares.sqrt()).max() < tolerance


@pytest.mark.property
def test_a_scale_bounds_what_it_scales_when_gradients_jump():
    weight = nn.Parameter(torch.zeros(32, 32))
    optimizer = AdamW([("w", weight)], betas=(0.9, 0.98), statistics="float16")
    for step in range(200):
        size = 10.0 ** torch.randint(-8, 9, (1,)).item()
        weight.grad = size * torch.randn(32, 32) ** 3
        if step % 17 == 0:
            weight.grad.zero_()
        optimizer.step()
        state = optimizer.state[weight]
        for kind in ("exp_avg", "exp_avg_sqrt"):
            assert state[kind].abs().max() <= 2**15 * 1.02
        assert all(tensor.isfinite().all() for tensor in state.values())
    assert weight.isfinite().all()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("statistics", "weights", "expected"),
    [
        ("float32", torch.float32, 16),
        ("bfloat16", torch.float32, 12),
        ("float16", torch.float32, 12),
        ("bfloat16", torch.bfloat16, 8),
        ("float16", torch.float16, 8),
    ],
)
def test_bytes_of_a_parameter(statistics, weights, expected):
    # Origin: weight + gradient + two averages, 4 or 2 bytes each; scalars of a tensor beside them.
    weight = nn.Parameter(torch.zeros(128, 128, dtype=weights))
    optimizer = AdamW([("weight", weight)], statistics=statistics)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = [weight, weight.grad, *optimizer.state[weight].values()]
    assert sum(t.nbytes for t in held if t is not None and t.ndim) == expected * weight.numel()
    assert sum(t.nbytes for t in held if t is not None and not t.ndim) <= 12


def regression(statistics: Any, weights: torch.dtype, seed: int, lr: float = 0.05) -> float:
    """Return the error, beyond the noise of the labels, of a map learned from noisy batches."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(24, 16, generator=torch.Generator().manual_seed(99))
    weight = nn.Parameter(torch.zeros(24, 16).to(weights))
    optimizer = AdamW([("weight", weight)], betas=(0.9, 0.999), statistics=statistics)
    for step in range(300):
        x = torch.randn(32, 24, generator=generator)
        y = x @ true + 0.5 * torch.randn(32, 16, generator=generator)
        (x @ weight.to(x.dtype) - y).square().mean().backward()
        optimizer.param_groups[0]["lr"] = lr * (1 - step / 300)
        optimizer.step()
        optimizer.zero_grad()
    return (weight.detach().float() - true).square().mean().item()


@pytest.fixture(scope="module")
def band() -> tuple[float, float]:
    errors = [regression("float32", torch.float32, seed) for seed in range(5)]
    return min(errors), max(errors)


@pytest.mark.behaviour
@pytest.mark.parametrize("statistics", HALVES)
@pytest.mark.usefixtures("unchecked_shapes")
def test_half_statistics_converge_within_the_band_of_float32(statistics, band):
    errors = [regression(statistics, torch.float32, seed) for seed in range(3)]
    assert all(0.9 * band[0] < error < 1.1 * band[1] for error in errors), (errors, band)


@pytest.mark.behaviour
@pytest.mark.usefixtures("unchecked_shapes")
def test_half_weights_converge_where_rounding_to_nearest_stops_short(band, monkeypatch):
    # float16 holds the map as well as float32 does, bfloat16 to 8 bits.
    assert regression("float16", torch.float16, 0) < 1.1 * band[1]
    assert regression("bfloat16", torch.bfloat16, 0) < 1.5 * band[1]
    monkeypatch.setattr(Noise, "bits", nearest)
    assert regression("bfloat16", torch.bfloat16, 0) > 5 * band[1]
