"""The compiled step beside its plain twin: the same bits, whatever is kept in 16."""

from __future__ import annotations

import copy
import math
import pickle
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.optim import kernel, library
from bifocal.optim.adamw import AdamW
from bifocal.optim.update import Finder

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

pytestmark = pytest.mark.skipif(not library.find_compiler(), reason="there is no C compiler")
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
        assert others(tensor, fast[kind]) == 0, kind
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


@by_vectors
@pytest.mark.property
@pytest.mark.parametrize("statistics", ["bfloat16", "float16"])
def test_channels_last_is_moved_in_its_own_order(statistics):
    found = []
    for compiled in (False, True):
        drawn = torch.linspace(-1, 1, 2048).reshape(8, 16, 4, 4)
        weight = nn.Parameter(drawn.to(memory_format=torch.channels_last))
        optimizer = AdamW([("w", weight)], statistics=statistics, **SETTINGS)
        if compiled:
            optimizer.compile()
        for step in range(4):
            weight.grad = (drawn + step).sin()  # its layout is another
            optimizer.step()
        found.append({"weight": weight.detach(), **optimizer.state[weight]})
    plain, fast = found
    assert fast["exp_avg"].stride() == fast["weight"].stride() == (256, 1, 64, 16)
    for kind, tensor in plain.items():
        assert others(tensor, fast[kind]) == 0, kind


@pytest.mark.property
def test_vectors_and_groups_and_other_gradients_are_moved_too():
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        named = {
            "matrix": nn.Parameter(torch.randn(16, 64).bfloat16()),
            "vector": nn.Parameter(torch.randn(64).half()),
            "scalar": nn.Parameter(torch.tensor(0.5).bfloat16()),
            "full": nn.Parameter(torch.randn(64)),
            "precise": nn.Parameter(torch.randn(16, 64).bfloat16()),
        }
        named["precise"].grad_dtype = torch.float32
        groups = [
            {"params": [pair], "weight_decay": 0.1 * n} for n, pair in enumerate(named.items())
        ]
        optimizer = AdamW(groups, lr=1e-2, statistics="float16")
        if compiled:
            optimizer.compile()
        for _ in range(3):
            for parameter in named.values():
                grad = torch.randn(parameter.shape)
                parameter.grad = grad.to(parameter.grad_dtype or parameter.dtype)
            optimizer.step()
        found.append({name: parameter.detach().float() for name, parameter in named.items()})
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=2**-7, atol=1e-6)


@pytest.mark.behaviour
@pytest.mark.parametrize("compiled", [False, True])
def test_a_copy_of_an_optimizer_steps(compiled):
    weight = nn.Parameter(torch.ones(8, 64))
    optimizer = AdamW([("w", weight)], statistics="bfloat16", **SETTINGS)
    if compiled:
        optimizer.compile()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (twin,) = copied.param_groups[0]["params"]
        twin.grad = torch.ones_like(twin)
        copied.step()
        assert int(copied.state[twin]["step"]) == 2


@pytest.mark.behaviour
def test_an_interrupt_waits_for_the_threads(monkeypatch):
    monkeypatch.setattr(kernel, "LEAST", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    weight = nn.Parameter(torch.zeros(8, 64))
    optimizer = AdamW([("w", weight)], statistics="bfloat16")
    optimizer.compile()
    done: list[int] = []

    def work(part: int, parts: int) -> None:
        if part == 0:
            raise KeyboardInterrupt
        time.sleep(0.2)
        done.append(part)

    made = optimizer._kernel
    assert made is not None
    with pytest.raises(KeyboardInterrupt):
        made._share(work, 512)
    assert sorted(done) == [1, 2]


@pytest.mark.property
@pytest.mark.parametrize("statistics", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("weights", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("shape", [LARGE, (37, 53), (0, 4)], ids=str)
def test_updates_are_clipped_alike(shape, weights, statistics):
    rates = []
    for compiled in (False, True):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(shape).to(weights))
        optimizer = AdamW([("w", weight)], statistics=statistics, max_update_rms=0.5, **SETTINGS)
        if compiled:
            optimizer.compile()
            assert optimizer._kernel is not None
        for size in (1e-9, 1.0, 100.0, 0.0):  # the first one is below eps
            weight.grad = (size * torch.randn(shape)).to(weights)
            group = optimizer.param_groups[0]
            finder = optimizer._kernel or Finder()
            updates = list(optimizer._updates(group))
            rates.append(finder.excesses(updates, group).item())
            optimizer.step()
    assert rates[:4] == pytest.approx(rates[4:], rel=1e-5, nan_ok=True)
    assert not math.prod(shape) or rates[0] < 1e-5 < 1 < rates[1]


@pytest.mark.behaviour
def test_without_a_compiler_a_user_is_told(monkeypatch, tmp_path):
    weight = nn.Parameter(torch.zeros(2, 2))
    library.compiled.cache_clear()
    monkeypatch.delenv("CC", raising=False)
    with monkeypatch.context() as changed:
        changed.setenv("PATH", str(tmp_path))
        AdamW([("w", weight)]).compile()  # there is nothing to compile for
        with pytest.raises(ConfigError, match=r"needs a C compiler.*leave train\.compile out"):
            AdamW([("w", weight)], max_update_rms=1.0).compile()
        with pytest.raises(ConfigError, match=r"needs a C compiler.*leave train\.compile out"):
            AdamW([("w", weight)], statistics="bfloat16").compile()
    # One that is named is meant, and may have options.
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(ConfigError, match=r"there is none at \$CC"):
        AdamW([("w", weight)], statistics="bfloat16").compile()
    monkeypatch.setenv("CC", f"{library.shutil.which('cc') or 'gcc'} -DNOTHING")
    AdamW([("w", weight)], statistics="bfloat16").compile()


@pytest.mark.behaviour
def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    weight = nn.Parameter(torch.zeros(2, 2))
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'no such option: -march' >&2\nexit 1\n")
    broken.chmod(0o755)
    library.compiled.cache_clear()
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(ConfigError, match=r"leave train\.compile out.*\n.*no such option: -march"):
        AdamW([("w", weight)], statistics="bfloat16").compile()
    # One that says that all is well, and leaves nothing that can be loaded.
    for what in ("#!/bin/sh\nexit 0\n", "no program"):
        broken.write_text(what)
        with pytest.raises(ConfigError, match=r"cannot be compiled by .* and loaded: set TMPDIR"):
            AdamW([("w", weight)], statistics="bfloat16").compile()
