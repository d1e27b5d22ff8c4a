"""The loss, the groups of the optimizer and the schedule, against plain arithmetic."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bifocal.loss.softmax import SoftmaxLoss
from bifocal.model.clip import CLIP
from bifocal.optim.groups import adamw, decay_groups
from bifocal.optim.schedule import WarmupCosine
from bifocal.types import Features


def features(count: int = 5, scale: float = 7.0) -> Features:
    image, text = F.normalize(torch.randn(2, count, 8), dim=-1)
    return Features(image, text, torch.tensor(scale))


@pytest.mark.golden
def test_two_pairs_by_hand():
    # Origin: logits s·[[1, 0.6], [0, 0.8]] with s = 2, written out below.
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    rows = -math.log(math.exp(2) / (math.exp(2) + math.exp(1.2)))
    rows += -math.log(math.exp(1.6) / (math.exp(0) + math.exp(1.6)))
    columns = -math.log(math.exp(2) / (math.exp(2) + math.exp(0)))
    columns += -math.log(math.exp(1.6) / (math.exp(1.2) + math.exp(1.6)))
    loss = SoftmaxLoss().value(Features(image, text, torch.tensor(2.0)))
    assert loss.item() == pytest.approx((rows / 2 + columns / 2) / 2, rel=1e-6)


@pytest.mark.golden
def test_features_that_say_nothing_cost_the_logarithm_of_the_batch():
    same = F.normalize(torch.ones(16, 4), dim=-1)
    loss = SoftmaxLoss().value(Features(same, same, torch.tensor(100.0)))
    assert loss.item() == pytest.approx(math.log(16), rel=1e-6)


@pytest.mark.property
def test_gradients_are_those_of_finite_differences():
    made = features()
    leaves = [t.double() for t in (made.image, made.text, made.logit_scale)]

    def value(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        logits = scale * image @ text.T
        rows = logits.logsumexp(1) - logits.diagonal()
        columns = logits.logsumexp(0) - logits.diagonal()
        return (rows.mean() + columns.mean()) / 2

    loss, gradients = SoftmaxLoss().value_and_grad(made)
    assert loss.item() == pytest.approx(value(*leaves).item(), rel=1e-6)
    for number, gradient in enumerate((gradients.image, gradients.text, gradients.logit_scale)):
        numeric = torch.zeros_like(leaves[number])
        for place in range(numeric.numel()):
            moved = []
            for sign in (1, -1):
                shifted = [leaf.clone() for leaf in leaves]
                shifted[number].view(-1)[place] += sign * 1e-6
                moved.append(value(*shifted))
            numeric.view(-1)[place] = (moved[0] - moved[1]) / 2e-6
        torch.testing.assert_close(gradient.double(), numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.property
def test_the_towers_may_change_places():
    made = features()
    swapped = Features(made.text, made.image, made.logit_scale)
    loss, gradients = SoftmaxLoss().value_and_grad(made)
    other, changed = SoftmaxLoss().value_and_grad(swapped)
    torch.testing.assert_close(loss, other)
    torch.testing.assert_close(gradients.image, changed.text)
    torch.testing.assert_close(gradients.text, changed.image)


@pytest.mark.property
def test_the_arithmetic_is_float32_even_under_autocast():
    made = features(count=64, scale=100.0)
    half = Features(made.image.bfloat16(), made.text.bfloat16(), made.logit_scale)
    exact = Features(half.image.float(), half.text.float(), half.logit_scale)
    expected, _ = SoftmaxLoss().value_and_grad(exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients = SoftmaxLoss().value_and_grad(half)
    assert loss.dtype == gradients.image.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.golden
def test_gains_biases_and_the_temperature_do_not_decay(tiny):
    # Origin: paper section 2.5, "all weights that are not gains or biases".
    model = CLIP(tiny)
    decayed, free = decay_groups(model, 0.2)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p in free["params"]}
    assert free["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.2
    assert len(decayed["params"]) + len(kept) == len(names)
    for name in names.values():
        vector = name.endswith("bias") or name in ("logit_scale", "visual.class_embedding")
        gain = any(part in name for part in ("ln_", ".bn")) or "downsample.1" in name
        assert (name in kept) == (vector or gain), name


@pytest.mark.parity
def test_a_step_is_adam_with_decoupled_decay():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, weight_decay=0.1, beta1=0.9, beta2=0.98, eps=1e-6)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        # The first step of Adam is the sign of the gradient, up to epsilon.
        decay = 0.1 if name == "weight" else 0.0
        moved = before[name] * (1 - 0.01 * decay)
        moved -= 0.01 * parameter.grad / (parameter.grad.abs() + 1e-6)
        torch.testing.assert_close(parameter.detach(), moved, rtol=1e-5, atol=1e-7)


@pytest.mark.golden
def test_the_rate_warms_up_and_falls_as_a_cosine():
    # Origin: linear to the peak over 10 steps, then half a cosine over 100.
    rate = WarmupCosine(peak=2.0, warmup=10, total=110)
    assert rate(0) == pytest.approx(0.2)
    assert rate(9) == rate(10) == pytest.approx(2.0)
    assert rate(60) == pytest.approx(1.0)
    assert rate(35) == pytest.approx(1 + math.cos(math.pi / 4))
    assert rate(109) == pytest.approx(1 - math.cos(math.pi / 100), abs=1e-9)
    assert rate(110) == rate(500) == pytest.approx(0, abs=1e-12)
    rates = [rate(step) for step in range(111)]
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert WarmupCosine(1.0, 0, 10)(0) == 1.0
    # A run shorter than its warm-up never falls.
    assert WarmupCosine(1.0, 100, 10)(9) == pytest.approx(0.1)
