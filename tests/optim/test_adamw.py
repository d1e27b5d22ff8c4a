"""AdamW in every format: torch's own in float32, and what 16 bits must not lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from bifocal.errors import CheckpointError, ConfigError
from bifocal.optim import update
from bifocal.optim.adamw import AdamW
from bifocal.optim.groups import adamw, store_matrices

FORMATS = ["float32", "bfloat16", "float16"]
HALVES = ["bfloat16", "float16"]
SETTINGS: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}
SHAPES = {"proj": (37, 53), "bias": (53,), "logit_scale": (), "conv1": (8, 3, 5, 5), "gain": (7,)}

Named = list[tuple[str, nn.Parameter]]


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> Named:
    generator = torch.Generator().manual_seed(seed)
    drawn = [(n, torch.randn(shape, generator=generator)) for n, shape in SHAPES.items()]
    named = [(name, nn.Parameter(tensor)) for name, tensor in drawn]
    store_matrices((p for _, p in named), dtype)
    return named


def walk(optimizer: torch.optim.Optimizer, named: Named, steps: range) -> None:
    """Make steps with gradients and rates that depend on the step alone."""
    for step in steps:
        for place, (_, parameter) in enumerate(sorted(named)):
            generator = torch.Generator().manual_seed(100 * step + place)
            grad = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(grad)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (step + 1) / 100
        optimizer.step()


def assert_same(first: Named, second: Named) -> None:
    others = dict(second)
    for name, parameter in first:
        assert torch.equal(parameter, others[name]), name


@pytest.mark.parity
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_float32_is_torchs_fused_adamw_bit_for_bit(layout):
    ours, theirs = parameters(), parameters()
    for _, parameter in (*ours, *theirs):
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=layout)
    mine = AdamW(ours, **SETTINGS)
    fused = torch.optim.AdamW([p for _, p in theirs], fused=True, **SETTINGS)
    walk(mine, ours, range(100))
    walk(fused, theirs, range(100))
    assert_same(ours, theirs)
    for (_, parameter), (_, other) in zip(ours, theirs, strict=True):
        for kind, tensor in fused.state[other].items():
            assert torch.equal(mine.state[parameter][kind], tensor), kind


@pytest.mark.property
@pytest.mark.parametrize("statistics", FORMATS)
def test_a_gradient_in_another_layout_is_the_same_gradient(statistics):
    usual, odd = parameters(), parameters()
    for named in (usual, odd):
        kernel = dict(named)["conv1"]
        kernel.data = kernel.data.to(memory_format=torch.channels_last)
        optimizer = AdamW(named, statistics=statistics, **SETTINGS)
        kernel.grad = torch.linspace(-1, 1, 600).reshape(kernel.shape)
        if named is usual:
            kernel.grad = kernel.grad.to(memory_format=torch.channels_last)
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    assert_same(usual, odd)


@pytest.mark.parity
@pytest.mark.parametrize("foreach", [False, True])
def test_float32_is_torchs_other_forms_up_to_rounding(foreach):
    ours, theirs = parameters(), parameters()
    walk(AdamW(ours, **SETTINGS), ours, range(100))
    other = torch.optim.AdamW([p for _, p in theirs], foreach=foreach, **SETTINGS)
    walk(other, theirs, range(100))
    for (_, parameter), (_, expected) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.property
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("statistics", FORMATS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(statistics, weights):
    whole, resumed = parameters(weights), parameters(weights)
    walk(AdamW(whole, statistics=statistics, **SETTINGS), whole, range(12))
    before = AdamW(resumed, statistics=statistics, **SETTINGS)
    walk(before, resumed, range(7))
    names = {parameter: name for name, parameter in resumed}
    states = before.state.items()
    stored = {f"{k}/{names[p]}": t.contiguous() for p, state in states for k, t in state.items()}
    # The next process: new tensors, what a checkpoint holds, another order.
    again = [(name, nn.Parameter(parameter.detach().clone())) for name, parameter in resumed[::-1]]
    after = AdamW(again, statistics=statistics, **SETTINGS)
    for key, tensor in load(save(stored)).items():
        kind, _, name = key.partition("/")
        after.state[dict(again)[name]][kind] = tensor
    walk(after, again, range(7, 12))
    assert_same(whole, again)


@pytest.mark.property
@pytest.mark.parametrize("statistics", FORMATS)
def test_torchs_state_dict_keeps_every_bit(statistics):
    whole, first = parameters(torch.bfloat16), parameters(torch.bfloat16)
    walk(AdamW(whole, statistics=statistics, **SETTINGS), whole, range(9))
    before = AdamW(first, statistics=statistics, **SETTINGS)
    walk(before, first, range(5))
    again = [(name, nn.Parameter(parameter.detach().clone())) for name, parameter in first]
    after = AdamW(again, statistics=statistics, **SETTINGS)
    after.load_state_dict(before.state_dict())
    walk(after, again, range(5, 9))
    assert_same(whole, again)


@pytest.mark.property
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("statistics", FORMATS)
def test_neither_order_nor_groups_nor_parts_change_a_bit(statistics, weights, monkeypatch):
    plain, turned = parameters(weights), parameters(weights)
    walk(AdamW(plain, statistics=statistics, **SETTINGS), plain, range(6))
    monkeypatch.setattr(update, "PART_OF_A_THREAD", 512)
    groups = [{"params": [pair]} for pair in turned[::-1]]
    walk(AdamW(groups, statistics=statistics, **SETTINGS), turned, range(6))
    assert_same(plain, turned)


@pytest.mark.property
def test_noise_differs_between_tensors_and_steps():
    twins = [(name, nn.Parameter(torch.full((64, 64), 0.7).bfloat16())) for name in ("one", "two")]
    optimizer = AdamW(twins, lr=1e-3, statistics="bfloat16")
    for _ in range(3):
        for _, parameter in twins:
            parameter.grad = torch.full_like(parameter, 0.3)
        optimizer.step()
    one, two = (parameter for _, parameter in twins)
    assert not torch.equal(one, two)
    first, second = (optimizer.state[parameter]["exp_avg"] for parameter in (one, two))
    assert not torch.equal(first, second)


@pytest.mark.golden
@pytest.mark.parametrize("statistics", HALVES)
def test_vectors_scalars_and_their_averages_stay_float32(statistics):
    # Origin: paper section 2.5 halves Adam statistics and text weights; a vector saves nothing.
    named = parameters(torch.bfloat16)
    optimizer = AdamW(named, statistics=statistics)
    walk(optimizer, named, range(2))
    for _, parameter in named:
        matrix = parameter.ndim >= 2
        assert parameter.dtype == (torch.bfloat16 if matrix else torch.float32)
        wide = optimizer.state[parameter]["exp_avg"].dtype == torch.float32
        assert wide != matrix


@pytest.mark.behaviour
def test_parameters_without_gradients_stay_and_need_no_state():
    named = parameters()
    before = {name: parameter.detach().clone() for name, parameter in named}
    optimizer = AdamW(named, lr=1.0, statistics="float16", max_update_rms=1.0)
    optimizer.step()
    assert not optimizer.state
    named[0][1].grad = torch.zeros_like(named[0][1])
    optimizer.step()  # nor does a gradient that is zero move anything
    assert all(torch.equal(parameter, before[name]) for name, parameter in named)
    assert list(optimizer.state) == [named[0][1]]


@pytest.mark.behaviour
def test_a_gradient_that_is_not_finite_is_not_hidden():
    for bad in (float("nan"), float("inf")):
        weight = nn.Parameter(torch.ones(8, 8).bfloat16())
        optimizer = AdamW([("weight", weight)], lr=0.1, statistics="float16")
        weight.grad = torch.full((8, 8), bad).bfloat16()
        optimizer.step()
        assert weight.isnan().all()


REFUSED: list[tuple[Callable[[Named], object], str]] = [
    (lambda named: AdamW([{"params": [p for _, p in named]}]), "without names"),
    (lambda named: AdamW([("same", p) for _, p in named]), "two of one name"),
    (lambda named: AdamW([{"params": named, "statistics": "bfloat"}]), "did you mean 'bfloat16'"),
    (lambda named: AdamW(named, max_update_rms=0.0), "above 0"),
]


@pytest.mark.behaviour
@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make(parameters())


@pytest.mark.behaviour
@pytest.mark.parametrize(("begun", "resumed"), [("float32", "bfloat16"), ("float16", "float32")])
def test_statistics_of_another_format_are_refused(begun, resumed):
    named = parameters()
    before = AdamW(named, statistics=begun)
    walk(before, named, range(1))
    after = AdamW(named, statistics=resumed)
    after.load_state_dict(
        {**before.state_dict(), "param_groups": after.state_dict()["param_groups"]}
    )
    with pytest.raises(CheckpointError, match=r"statistics of proj .*optim\.statistics"):
        walk(after, named, range(1, 2))


@pytest.mark.behaviour
def test_the_room_builds_it_by_names_of_the_model(tiny, random_clip):
    model = random_clip(tiny)
    text = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    store_matrices(text, torch.bfloat16)
    assert model.logit_scale.dtype == model.ln_final.weight.dtype == torch.float32
    assert model.text_projection.dtype == model.token_embedding.weight.dtype == torch.bfloat16
    assert {p.dtype for p in model.visual.parameters()} == {torch.float32}
    optimizer = adamw(
        model, weight_decay=0.1, beta1=0.9, beta2=0.98, eps=1e-6, statistics="bfloat16"
    )
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    for group in optimizer.param_groups:
        owned = dict(model.named_parameters())
        pairs = zip(group["param_names"], group["params"], strict=True)
        assert all(owned[name] is parameter for name, parameter in pairs)


@pytest.mark.behaviour
def test_parameters_of_other_formats_are_refused():
    weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    weight.grad = torch.ones_like(weight)
    with pytest.raises(ConfigError, match=r"weight is torch\.float64"):
        AdamW([("weight", weight)]).step()
