"""The compiled step beside its plain twin: the same bits, whatever is kept in 16."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.optim import kernel
from bifocal.optim.adamw import AdamW

SETTINGS: dict[str, Any] = {"lr": 1e-2, "eps": 1e-6, "weight_decay": 0.2}
HALVES = [torch.bfloat16, torch.float16]
CASES = [
    (weights, statistics)
    for weights in (torch.float32, *HALVES)
    for statistics in ("float32", "bfloat16", "float16")
    if (weights, statistics) != (torch.float32, "float32")
]
LARGE = (300, 512)
"""More than two blocks of noise, and no multiple of one."""

pytestmark = pytest.mark.skipif(kernel.find_compiler() is None, reason="there is no C compiler")
by_vectors = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="torch's own kernel does not multiply and add at once here",
)


def walked(
    shape: tuple[int, ...],
    weights: torch.dtype,
    statistics: str,
    *,
    compiled: bool,
    steps: int = 5,
    beta1: float = 0.9,
    bad: float | None = None,
) -> dict[str, Tensor]:
    """Return weight and averages after steps whose gradients shrink a hundredfold each."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape).to(weights))
    optimizer = AdamW([("w", weight)], betas=(beta1, 0.98), statistics=statistics, **SETTINGS)
    if compiled:
        optimizer.compile()
    for step in range(steps):
        grad = torch.randn(shape) * 10.0 ** (-2 * step)
        if bad is not None and step == 2:
            grad.view(-1)[:7] = bad
        weight.grad = grad.to(weights)
        optimizer.step()
    return {"weight": weight.detach(), **optimizer.state[weight]}


def others(plain: Tensor, compiled: Tensor) -> int:
    """Return in how many places two tensors differ; NaN is NaN."""
    same = (plain == compiled) | (plain.isnan() & compiled.isnan())
    return int((~same).sum())


@by_vectors
@pytest.mark.property
@pytest.mark.parametrize("beta1", [0.9, 0.3])
@pytest.mark.parametrize(("weights", "statistics"), CASES, ids=str)
def test_it_ends_in_the_bits_of_its_plain_twin(weights, statistics, beta1):
    plain, fast = (
        walked(LARGE, weights, statistics, compiled=compiled, beta1=beta1)
        for compiled in (False, True)
    )
    for kind, tensor in plain.items():
        # torch's root of an average is not always the nearest number: a few are rounded apart.
        spared = 5 if kind == "exp_avg_sqrt" else 0
        assert others(tensor, fast[kind]) <= spared, kind
        torch.testing.assert_close(fast[kind], tensor, rtol=2**-7, atol=0)
    assert plain.keys() == fast.keys()


@pytest.mark.property
@pytest.mark.parametrize("shape", [(37, 53), (3, 64), (1, 5), (0, 4), (8, 3, 5, 5)], ids=str)
@pytest.mark.parametrize(("weights", "statistics"), CASES, ids=str)
def test_odd_shapes_end_within_a_rounding(shape, weights, statistics):
    plain, fast = (
        walked(shape, weights, statistics, compiled=compiled) for compiled in (False, True)
    )
    for kind, tensor in plain.items():
        torch.testing.assert_close(fast[kind], tensor, rtol=2**-6, atol=1e-9)


@pytest.mark.property
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("weights", "statistics"), CASES, ids=str)
def test_what_is_not_finite_is_not_hidden_by_either(weights, statistics, bad):
    for compiled in (False, True):
        found = walked((3, 64), weights, statistics, compiled=compiled, bad=bad)
        assert found["weight"].view(-1)[:7].isnan().all()
        own = 192 if statistics == "float16" else 7  # a scale that is infinite spoils its tensor
        assert int(found["weight"].isnan().sum()) == own


@pytest.mark.property
@pytest.mark.parametrize("statistics", ["bfloat16", "float16"])
def test_threads_do_not_change_a_bit(statistics, monkeypatch):
    monkeypatch.setattr(kernel, "LEAST", 1000)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append(walked(LARGE, torch.bfloat16, statistics, compiled=True))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(tensor, other[kind]) for kind, tensor in found[0].items())


@pytest.mark.property
@pytest.mark.parametrize("statistics", ["bfloat16", "float16"])
def test_channels_last_moves_as_channels_first(statistics):
    weight = nn.Parameter(torch.randn(8, 16, 4, 4).to(memory_format=torch.channels_last))
    twin = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    for parameter, fast in ((weight, True), (twin, False)):
        optimizer = AdamW([("w", parameter)], statistics=statistics, **SETTINGS)
        if fast:
            optimizer.compile()
        parameter.grad = torch.linspace(-1, 1, 2048).reshape(8, 16, 4, 4)
        optimizer.step()
    torch.testing.assert_close(weight, twin)


@pytest.mark.property
def test_clipped_updates_are_clipped_alike():
    found = []
    for compiled in (False, True):
        weight = nn.Parameter(torch.linspace(-1, 1, 1024).view(32, 32))
        optimizer = AdamW([("w", weight)], statistics="bfloat16", max_update_rms=0.5, **SETTINGS)
        if compiled:
            optimizer.compile()
        for size in (1.0, 100.0):
            weight.grad = size * weight.detach().sin()
            optimizer.step()
        found.append(weight.detach())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


@pytest.mark.behaviour
def test_without_a_compiler_a_user_is_told(monkeypatch, tmp_path):
    weight = nn.Parameter(torch.zeros(2, 2))
    kernel.compiled.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs a C compiler.*leave train\.compile out"):
        AdamW([("w", weight)]).compile()


@pytest.mark.behaviour
def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    weight = nn.Parameter(torch.zeros(2, 2))
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'no such option: -march' >&2\nexit 1\n")
    broken.chmod(0o755)
    kernel.compiled.cache_clear()
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(ConfigError, match=r"leave train\.compile out.*\n.*no such option: -march"):
        AdamW([("w", weight)]).compile()
    # One that says that all is well, and leaves nothing that can be loaded.
    broken.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(ConfigError, match="cannot be loaded: set TMPDIR"):
        AdamW([("w", weight)]).compile()
