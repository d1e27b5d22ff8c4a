"""What is measured of gradients, by torch and by the kernel, and how they are clipped."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bifocal.optim import kernel as kernels
from bifocal.optim.adamw import AdamW
from bifocal.optim.gradients import clip_gradients
from bifocal.optim.kernel import Kernel
from bifocal.optim.library import find_compiler

FORMATS = [torch.float32, torch.bfloat16, torch.float16]
needs_compiler = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")
BOTH = [False, pytest.param(True, marks=needs_compiler)]


def finder(compiled: bool) -> Kernel | None:
    return Kernel() if compiled else None


def with_gradients(*gradients: Tensor) -> list[nn.Parameter]:
    """Return parameters, and one more that has no gradient."""
    made = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = gradient
    return [*made, nn.Parameter(torch.zeros(3))]


def layouts(dtype: torch.dtype) -> list[Tensor]:
    """Return gradients of every shape and order of storage that a model may have."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(300, 512, generator=generator).to(dtype)
    kernel = drawn[:64, :27].reshape(64, 3, 3, 3)
    return [
        drawn,
        -3 * drawn[:37, :53].t(),
        drawn[::7, 3:90:2],
        kernel.contiguous(memory_format=torch.channels_last),
        drawn[0].expand(8, 512),
        drawn[5, 5],
        drawn[:0],
    ]


@pytest.mark.property
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("compiled", BOTH)
def test_the_norm_and_the_peaks_are_those_of_the_elements(dtype, compiled):
    gradients = layouts(dtype)
    parameters = with_gradients(*gradients)
    before = [gradient.clone() for gradient in gradients]
    measured = clip_gradients(parameters, None, finder(compiled))
    elements = torch.cat([gradient.double().flatten() for gradient in gradients])
    precision = 1e-12 if compiled else 1e-5
    assert measured.norm == pytest.approx(elements.norm().item(), rel=precision)
    if compiled:
        largest = [g.double().abs().max().item() if g.numel() else 0.0 for g in gradients]
        assert [measured.peaks[parameter] for parameter in parameters[:-1]] == largest
    assert parameters[-1] not in measured.peaks
    assert all(map(torch.equal, gradients, before))


@needs_compiler
@pytest.mark.property
def test_no_square_is_too_large_or_too_small():
    for size in (1e30, 1e-30):
        parameters = with_gradients(torch.full((100, 10), size))
        assert clip_gradients(parameters, None, Kernel()).norm == pytest.approx(
            size * math.sqrt(1000), rel=1e-6
        )


@needs_compiler
@pytest.mark.property
def test_threads_hardly_change_the_norm_and_never_the_peaks(monkeypatch):
    monkeypatch.setattr(kernels, "LEAST", 1000)
    parameters, found = with_gradients(*layouts(torch.float32)), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append(clip_gradients(parameters, None, Kernel()))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert other.peaks == found[0].peaks
        assert other.norm == pytest.approx(found[0].norm, rel=1e-13)


@pytest.mark.property
@pytest.mark.parametrize("compiled", BOTH)
def test_clipping_is_torchs(compiled):
    gradients = layouts(torch.float32)
    expected = with_gradients(*(gradient.clone() for gradient in gradients))
    torch.nn.utils.clip_grad_norm_(expected, 0.5)
    parameters = with_gradients(*(gradient.clone() for gradient in gradients))
    measured = clip_gradients(parameters, 0.5, finder(compiled))
    assert measured.norm > 100
    assert measured.peaks == {}, "those that were found are no longer the largest"
    for one, other in zip(parameters[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=0)
    assert clip_gradients(parameters, 0.5, finder(compiled)).norm == pytest.approx(0.5, rel=1e-5)


@pytest.mark.property
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("compiled", BOTH)
def test_what_is_not_finite_shows_and_stays(bad, dtype, compiled):
    gradients = layouts(dtype)
    for place in (0, 1, 3, 5):
        spoiled = gradients[place].clone()
        spoiled[tuple(n // 2 for n in spoiled.shape)] = bad
        before = spoiled.clone()
        parameters = with_gradients(gradients[2], spoiled)
        measured = clip_gradients(parameters, 1.0, finder(compiled))
        assert not math.isfinite(measured.norm)
        assert math.isnan(measured.norm) == math.isnan(bad)
        assert torch.equal(spoiled.nan_to_num(nan=7.0), before.nan_to_num(nan=7.0))
        if compiled:
            assert not math.isfinite(measured.peaks[parameters[1]])
            assert math.isfinite(measured.peaks[parameters[0]])


@needs_compiler
@pytest.mark.property
@pytest.mark.parametrize("limit", [None, 1e-4])
def test_a_step_that_is_told_the_peaks_is_the_step_that_finds_them(limit):
    found = []
    for told in (False, True):
        torch.manual_seed(0)
        named = [(name, nn.Parameter(torch.randn(50, 70))) for name in ("one", "two")]
        optimizer = AdamW(named, lr=0.01, statistics="float16")
        optimizer.compile()
        for step in range(4):
            for _, parameter in named:
                parameter.grad = torch.randn(50, 70) * 10.0 ** (-step)
            measured = optimizer.clip_gradients(limit)
            assert bool(measured.peaks) == (limit is None)
            optimizer.step(peaks=measured.peaks if told else {})
        found.append([optimizer.state[p] | {"weight": p.detach()} for _, p in named])
    for untold, told in zip(*found, strict=True):
        assert all(torch.equal(tensor, told[kind]) for kind, tensor in untold.items())
