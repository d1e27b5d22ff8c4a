"""Stochastic rounding: its mean, its neighbours, its noise, against the plain twin."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.errors import ConfigError
from bifocal.optim.rounding import (
    BLOCK,
    DROPPED,
    Noise,
    plain_noise,
    plain_round,
    round_,
    stochastic_round,
)

HALVES = [torch.bfloat16, torch.float16]
CPU = torch.device("cpu")

# Every kind of number: both signs, subnormal in either format, around the largest, not finite.
VALUES = [0.0, 1.0, -1.5, 3.14159, 1e-3, -2.7e-5, 6.1e-5, 3e-6, -5.96e-8, 4e-8, 1e-9, 1e-40, -1e-45]
LARGE = [65504.0, 65519.0, 65520.0, -65535.9, 65536.0, 1e30, -3.39e38, 3.4e38, math.inf, -math.inf]


def every_noise(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(2 ** DROPPED[dtype], dtype=torch.int32)


def noise_of(name: str, step: int, kind: str, count: int, dtype=torch.bfloat16) -> torch.Tensor:
    return Noise(name, step, count).bits(kind, 0, count, dtype, CPU)


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@given(bits=st.integers(-(2**31), 2**31 - 1), noise=st.integers(0, 2**16 - 1))
def test_the_fast_form_is_the_plain_one_for_any_bits(dtype, bits, noise):
    value = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
    noise %= 2 ** DROPPED[dtype]
    drawn = torch.tensor([noise], dtype=torch.int32)
    got = stochastic_round(value, dtype, drawn).item()
    expected = plain_round(value.item(), dtype, noise)
    assert got == expected or (math.isnan(got) and math.isnan(expected))
    assert math.copysign(1, got) == math.copysign(1, expected) or math.isnan(got)


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("value", VALUES + LARGE)
def test_the_fast_form_is_the_plain_one_for_chosen_values(dtype, value):
    value = torch.tensor(value).item()
    noise = every_noise(dtype)[:: 2**8]
    rounded = stochastic_round(torch.full(noise.shape, value), dtype, noise).tolist()
    assert rounded == [plain_round(value, dtype, n) for n in noise.tolist()]


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("value", VALUES)
def test_the_mean_over_all_noise_is_the_value_and_results_are_its_neighbours(dtype, value):
    exact = torch.tensor(value)
    noise = every_noise(dtype)
    rounded = stochastic_round(exact.expand(noise.shape).contiguous(), dtype, noise).double()
    # Exact, not statistical; float16 knows its subnormal numbers to 2^-37 only.
    tolerance = 2.0**-38 if dtype == torch.float16 and abs(value) < 2**-14 else 0.0
    assert abs(rounded.mean().item() - exact.item()) <= tolerance
    found = sorted(set(rounded.tolist()))
    assert found[0] <= exact.item() + tolerance
    assert exact.item() - tolerance <= found[-1]
    assert len(found) <= 2
    if len(found) == 2:
        low = torch.tensor(found[0], dtype=dtype)
        up = torch.nextafter(low, torch.tensor(math.inf, dtype=dtype))
        assert up.double().item() == found[1]


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_number_of_the_format_stays(dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[~every.isnan()]
    for draw in (0, 2 ** DROPPED[dtype] - 1):
        noise = torch.full(every.shape, draw, dtype=torch.int32)
        rounded = stochastic_round(every.float(), dtype, noise)
        assert torch.equal(rounded.view(torch.int16), every.view(torch.int16))


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_nan_stays_nan_whatever_its_bits(dtype):
    bits = torch.tensor([0x7FFFFFFF, -1, 0x7FC00000, 0x7F800001, -(2**23) + 1], dtype=torch.int32)
    noise = torch.full(bits.shape, 2 ** DROPPED[dtype] - 1, dtype=torch.int32)
    assert stochastic_round(bits.view(torch.float32), dtype, noise).isnan().all()
    # What a CPU's arithmetic writes needs no look at it.
    written = torch.tensor([0.0, math.inf]).sub_(torch.tensor([math.nan, math.inf]))
    assert round_(written, dtype, noise[:2]).isnan().all()


@pytest.mark.property
def test_a_scale_is_applied_before_rounding_however_far_it_is():
    values = torch.tensor([3.0e15, -2.0e15, 1.0e17])
    noise = torch.zeros(3, dtype=torch.int32)
    for scale in (2.0**-38, 2.0**-45):
        rounded = round_(values.clone(), torch.float16, noise, scale).half()
        assert torch.equal(rounded, stochastic_round(values * scale, torch.float16, noise))


@pytest.mark.property
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_noise_is_the_plain_one_wherever_a_part_begins(dtype):
    noise = Noise("visual.proj", 9, 3 * BLOCK - 5)
    for begin, end in [(0, 7), (100, 200), (BLOCK - 3, 2 * BLOCK + 4), (2 * BLOCK, 3 * BLOCK - 5)]:
        part = noise.bits("exp_avg", begin, end, dtype, CPU)
        assert len(part) == end - begin
        for place in {begin, begin + 3, min(begin + BLOCK, end - 1), end - 1}:
            expected = plain_noise("visual.proj", 9, "exp_avg", place, dtype)
            assert part[place - begin].item() == expected


@pytest.mark.golden
def test_the_noise_never_changes():
    # Origin: drawn once with SHAKE-128; runs that were begun with it replay it when resumed.
    assert noise_of("visual.proj", 1, "exp_avg", 4).tolist() == [64842, 45980, 18069, 35755]


@pytest.mark.property
def test_a_block_holds_every_value_once():
    bits = noise_of("w", 3, "exp_avg", BLOCK)
    assert torch.equal(bits.sort().values, every_noise(torch.bfloat16))
    short = noise_of("w", 3, "exp_avg", BLOCK, torch.float16)
    assert torch.equal(short.bincount(), torch.full((2**13,), 8))


@pytest.mark.property
def test_the_noise_of_an_element_is_uniform_over_steps_and_independent_of_others():
    steps = 4000
    drawn = torch.stack([noise_of("w", step, "exp_avg", 64) for step in range(steps)])
    other = torch.stack([noise_of("w", step, "exp_avg_sq", 64) for step in range(steps)])
    unit, other = ((x.double() + 0.5) / BLOCK - 0.5 for x in (drawn, other))
    # The standard error of a mean of n uniform numbers is 1 / sqrt(12 n); 64 of them within 4.5.
    sigma = (12 * steps) ** -0.5
    assert unit.mean(0).abs().max() < 4.5 * sigma
    # That of a mean of n products of two such numbers is 1 / (12 sqrt(n)).
    sigma = 1 / 12 * steps**-0.5
    for delayed in (1, 2, 7):
        assert (unit[delayed:] * unit[:-delayed]).mean(0).abs().max() < 4.5 * sigma
        assert (unit[:, delayed:] * unit[:, :-delayed]).mean(0).abs().max() < 4.5 * sigma
    assert (unit * other).mean(0).abs().max() < 4.5 * sigma


@pytest.mark.property
def test_a_value_rounded_at_every_step_has_its_mean_within_four_sigma():
    value, steps = 1.0 + 0.3 * 2**-7, 3000
    rounded = torch.stack(
        [
            stochastic_round(torch.full((16,), value), torch.bfloat16, noise_of("w", n, "m", 16))
            for n in range(steps)
        ]
    ).double()
    # Up by 2^-7 with probability 0.3.
    sigma = 2**-7 * (0.3 * 0.7 / steps) ** 0.5
    assert (rounded.mean(0) - value).abs().max() < 4 * sigma
    assert rounded.var(0).mean().item() == pytest.approx(2**-14 * 0.21, rel=0.05)


@pytest.mark.behaviour
def test_other_formats_are_refused():
    with pytest.raises(ConfigError, match=r"torch\.float64.*expected torch\.bfloat16"):
        stochastic_round(torch.ones(1), torch.float64, torch.zeros(1, dtype=torch.int32))
