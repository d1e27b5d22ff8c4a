"""Calibration against sums by hand; ties and crowded bins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.calibration import calibration


def logits_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log().float()


@pytest.mark.golden
def test_figures_are_those_of_sums_by_hand():
    logits = logits_of([0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6])
    labels = torch.tensor([0, 1, 1, 1])
    found = calibration(logits, labels, bins=2)
    # Everything is in (0.5, 1]: confidence 0.75, accuracy 3 / 4.
    assert found.ece == pytest.approx(0, abs=1e-6)
    assert [one.images for one in found.equal_width] == [0, 4]
    assert found.equal_width[0].accuracy is None
    # By mass: (0.6, 0.7) both right; (0.8, 0.9) one of two right.
    assert found.ece_equal_mass == pytest.approx((abs(1 - 0.65) + abs(0.5 - 0.85)) / 2, abs=1e-6)
    assert [(one.low, one.high) for one in found.equal_mass] == [
        (pytest.approx(0.6), pytest.approx(0.7)),
        (pytest.approx(0.8), pytest.approx(0.9)),
    ]
    nll = -(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.6)) / 4
    assert found.nll == pytest.approx(nll, rel=1e-6)
    brier = (2 * 0.1**2 + 2 * 0.8**2 + 2 * 0.3**2 + 2 * 0.4**2) / 4
    assert found.brier == pytest.approx(brier, rel=1e-6)
    assert found.confidence == pytest.approx(0.75)
    assert found.accuracy == 0.75


@st.composite
def classified(draw: st.DrawFn):
    images, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    line = st.lists(st.sampled_from([-2.0, 0.0, 1.0, 3.0]), min_size=classes, max_size=classes)
    return (
        torch.tensor(draw(st.lists(line, min_size=images, max_size=images))),
        torch.tensor([draw(st.integers(0, classes - 1)) for _ in range(images)]),
    )


@pytest.mark.property
@given(case=classified(), bins=st.integers(1, 20))
def test_bins_hold_every_picture_once_and_the_order_does_not_matter(case, bins):
    logits, labels = case
    found = calibration(logits, labels, bins)
    order = torch.randperm(len(labels))
    again = calibration(logits[order], labels[order], bins)
    for some, other in (
        (found.equal_width, again.equal_width),
        (found.equal_mass, again.equal_mass),
    ):
        assert sum(one.images for one in some) == len(labels)
        assert [one.images for one in some] == [one.images for one in other]
        assert [one.accuracy for one in some] == [pytest.approx(one.accuracy) for one in other]
    sizes = [one.images for one in found.equal_mass]
    assert max(sizes) - min(sizes) <= 1
    p = logits.double().softmax(dim=1)
    expected = 0.0
    for n in range(bins):
        inside = [
            (max(row), int(row[label] == max(row) and row.count(max(row)) == 1))
            for row, label in zip(p.tolist(), labels.tolist(), strict=True)
            if n / bins < max(row) <= (n + 1) / bins or (n == 0 and max(row) == 0)
        ]
        if inside:
            gap = sum(one for one, _ in inside) - sum(right for _, right in inside)
            expected += abs(gap) / len(labels)
    assert found.ece == pytest.approx(expected, abs=1e-6)
    truth = torch.nn.functional.one_hot(labels, logits.shape[1])
    assert found.brier == pytest.approx((p - truth).square().sum(1).mean().item(), abs=1e-9)
    assert found.nll == pytest.approx(
        torch.nn.functional.cross_entropy(logits.double(), labels).item(), abs=1e-9
    )


@pytest.mark.behaviour
def test_a_model_that_says_what_is_true_is_calibrated_and_a_proud_one_is_not():
    generator = torch.Generator().manual_seed(1)
    p = torch.softmax(2 * torch.randn(4000, 4, generator=generator), dim=1)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    honest, proud = calibration(p.log(), labels), calibration(4 * p.log(), labels)
    assert honest.ece < 0.03 < 0.1 < proud.ece
    assert honest.ece_equal_mass < 0.03 < 0.1 < proud.ece_equal_mass
    assert honest.nll < proud.nll
    assert honest.brier < proud.brier


@pytest.mark.behaviour
def test_what_cannot_be_calibrated_is_an_error():
    with pytest.raises(DataError, match="not finite"):
        calibration(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
    with pytest.raises(ConfigError, match="0 bins"):
        calibration(torch.zeros(1, 2), torch.tensor([0]), 0)
