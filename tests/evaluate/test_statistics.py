"""Intervals that hold the truth as often as they say, and tests that find what is there."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate import units
from bifocal.evaluate.mcnemar import mcnemar
from bifocal.evaluate.metrics import mean_over_classes
from bifocal.evaluate.ranks import Relevance
from bifocal.evaluate.retrieval import RetrievalResult
from bifocal.evaluate.statistics import Bootstrap, interval, paired_difference
from bifocal.evaluate.zero_shot import ZeroShotResult

REPETITIONS = 200


def coverage(draw, truth: float, **what: Tensor) -> float:
    """Share of repetitions whose interval holds the truth."""
    held = 0
    for seed in range(REPETITIONS):
        generator = torch.Generator().manual_seed(1000 + seed)
        found = interval(draw(generator), plan=Bootstrap(resamples=300, seed=seed), **what)
        held += found.low <= truth <= found.high
    return held / REPETITIONS


@pytest.mark.behaviour
@pytest.mark.parametrize(("examples", "share"), [(60, 0.6), (150, 0.95), (300, 0.7)])
def test_intervals_of_a_share_hold_the_truth(examples, share):
    found = coverage(lambda g: torch.rand(examples, generator=g) < share, share)
    assert 0.90 <= found <= 0.99


@pytest.mark.behaviour
@pytest.mark.parametrize("each", [3, 20])
def test_intervals_of_a_mean_over_classes_hold_the_truth(each):
    shares = torch.linspace(0.3, 0.95, 10)
    classes = torch.arange(10).repeat_interleave(each)
    found = coverage(
        lambda g: torch.rand(len(classes), generator=g) < shares[classes],
        shares.mean().item(),
        classes=classes,
    )
    assert 0.90 <= found <= 0.99


@pytest.mark.behaviour
def test_captions_of_a_picture_are_not_independent():
    # Each picture has a share of its own, of which its five captions all speak; the mean is 2/3.
    groups = torch.arange(60).repeat_interleave(5)

    def draw(generator: torch.Generator) -> Tensor:
        shares = torch.rand(60, generator=generator).sqrt()
        return torch.rand(300, generator=generator) < shares[groups]

    assert 0.90 <= coverage(draw, 2 / 3, groups=groups) <= 0.99
    assert coverage(draw, 2 / 3) < 0.90


@pytest.mark.golden
def test_the_bounds_are_those_of_theory():
    # 700 of 1000: the normal interval is 0.7 ± 1.96 √(0.7 · 0.3 / 999) = 0.7 ± 0.02842.
    values = torch.arange(1000) < 700
    found = interval(values, plan=Bootstrap(resamples=5_000))
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - 0.02842, abs=0.003)
    assert found.high == pytest.approx(0.7 + 0.02842, abs=0.003)
    # Five captions a picture that agree are as good as one: √5 wider than 1000 examples.
    groups = torch.arange(200).repeat_interleave(5)
    wide = interval(values, groups=groups, plan=Bootstrap(resamples=5_000))
    assert wide.high - wide.low == pytest.approx(5**0.5 * (found.high - found.low), rel=0.05)
    assert (wide.units, wide.resamples, wide.method) == (200, 5_000, "BCa bootstrap")


@pytest.mark.golden
def test_units_are_drawn_within_their_class():
    # Class 0 is right in half of its examples and class 1 never: the variance of the mean of both
    # is a quarter of class 0's, ½ · ½ / 199; drawn over all examples it would be three times that.
    values = torch.cat([torch.arange(200) % 2, torch.zeros(200, dtype=torch.long)])
    classes = torch.arange(400) // 200
    found = interval(values.bool(), classes=classes, plan=Bootstrap(resamples=10_000))
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 * (0.25 / 199) ** 0.5, rel=0.05)
    assert found.value == 0.25


@pytest.mark.golden
@pytest.mark.parametrize("count", [1, 4])
def test_classes_that_agree_within_are_not_certain(count):
    # Draws within classes show no spread, yet of 2 or 8 pictures nothing is known so well: what is
    # then drawn is pictures, so that equally large classes have the interval of all pictures.
    values = torch.arange(2 * count) < count
    classes = values.long()
    found = interval(values, classes=classes)
    assert (found.low, found.high) == pytest.approx((interval(values).low, interval(values).high))
    assert found.high - found.low > 0.7
    # Class 0 has a tenth of the pictures, and half of the weight.
    classes = (torch.arange(40) >= 4).long()
    found = interval(classes == 0, classes=classes)
    assert found.value == 0.5
    assert found.low < 0.2
    assert found.high == 1.0


@pytest.mark.golden
def test_no_p_value_is_smaller_than_so_few_pictures_allow():
    # Two pictures, both right by the first model alone: a fair coin does that half of the time.
    for count in (2, 5, 9):
        ones = torch.ones(count, dtype=torch.bool)
        classes = torch.arange(count) % 2
        for found in (
            paired_difference(ones, ~ones),
            paired_difference(ones, ~ones, classes=classes),
        ):
            assert found.p_value == pytest.approx(2.0 ** (1 - count), rel=0.01) or count > 8
            assert found.p_value >= 2.0 ** (1 - count)


@pytest.mark.golden
def test_classes_of_two_examples_are_not_thought_certain():
    # 200 classes with one of two right: the unbiased variance of each class's mean is ½ / 2, that
    # of their mean ¼ / 200; 1.96 √(¼ / 200) = 0.0693, and 0.049 without the correction.
    classes = torch.arange(400) // 2
    found = interval(torch.arange(400) % 2 == 0, classes=classes, plan=Bootstrap(resamples=5_000))
    assert (found.high - found.low) / 2 == pytest.approx(0.0693, rel=0.06)


@pytest.mark.parity
def test_the_bounds_of_skewed_values_are_scipys():
    values = torch.randn(400, dtype=torch.float64).exp() ** 1.5
    found = interval(values, plan=Bootstrap(resamples=20_000))
    theirs = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    # The percentiles alone lie 0.1 lower at the upper end.
    assert found.low == pytest.approx(theirs.low, abs=0.04)
    assert found.high == pytest.approx(theirs.high, abs=0.06)


@pytest.mark.golden
def test_examples_that_all_agree_have_the_exact_binomial_bound():
    # Clopper & Pearson for 30 of 30: 0.025^(1/30) = 0.8843.
    found = interval(torch.ones(30, dtype=torch.bool))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8843, abs=1e-4)
    assert found.method == "exact binomial"
    found = interval(torch.zeros(30))
    assert found.low == 0.0
    assert found.high == pytest.approx(1 - 0.8843, abs=1e-4)
    # Captions of 6 pictures are 6 things, not 30.
    groups = torch.arange(6).repeat_interleave(5)
    assert interval(torch.ones(30), groups=groups).low == pytest.approx(0.025 ** (1 / 6))


@pytest.mark.property
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), min_size=2, max_size=30
    )
)
def test_values_are_the_plain_means(rows):
    right = torch.tensor([row[0] for row in rows])
    groups = torch.tensor([row[1] for row in rows])
    groups[0], groups[1] = 4, 5
    plan = Bootstrap(resamples=100)
    mean = right.double().mean().item()
    for found in (interval(right, plan=plan), interval(right, groups=groups, plan=plan)):
        assert found.value == pytest.approx(mean)
        assert 0 <= found.low <= found.high <= 1
    labels = torch.tensor([int(row[2]) for row in rows])
    by_class = interval(right, classes=labels, plan=plan)
    assert by_class.value == pytest.approx(mean_over_classes(right, labels))


@pytest.mark.property
def test_draws_follow_from_the_seed_alone(monkeypatch):
    values = torch.rand(300)
    plan = Bootstrap(resamples=500, seed=3)
    found = interval(values, plan=plan)
    assert interval(values, plan=plan) == found
    assert interval(values, plan=Bootstrap(resamples=500, seed=4)) != found
    # Whole resamples are held at a time, however many there are.
    largest: list[int] = []
    plain = torch.rand

    def counted(*shape: int, **kind: object) -> Tensor:
        largest.append(shape[0] * shape[1])
        return plain(*shape, **kind)

    monkeypatch.setattr(units, "TILE", 1000)
    monkeypatch.setattr(torch, "rand", counted)
    small = interval(values, plan=plan)
    assert max(largest) <= 1000
    assert small.low == pytest.approx(found.low, abs=0.01)


@pytest.mark.property
@given(both=st.integers(0, 5), first=st.integers(0, 12), second=st.integers(0, 12))
def test_mcnemar_is_the_binomial_formula(both, first, second):
    one = torch.tensor([True] * (both + first) + [False] * (second + 1))
    two = torch.tensor([True] * both + [False] * first + [True] * second + [False])
    found = mcnemar(one, two)
    assert (found.only_first, found.only_second) == (first, second)
    total, fewer = first + second, min(first, second)
    tail = sum(comb(total, k) for k in range(fewer + 1)) / 2**total
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert mcnemar(two, one).p_value == found.p_value


@pytest.mark.golden
def test_mcnemar_of_many_examples_has_no_overflow():
    # 60,000 discordant, 29,500 of them one way: z = 1000 / √60000 = 4.0825 less the continuity
    # correction, p = 4.5e-5 by the normal approximation.
    one = torch.arange(100_000) < 29_500
    two = (torch.arange(100_000) >= 29_500) & (torch.arange(100_000) < 60_000)
    assert mcnemar(one, two).p_value == pytest.approx(4.5e-5, rel=0.03)


@pytest.mark.behaviour
def test_a_real_difference_is_found_and_none_is_not_invented():
    invented = 0
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        hard = torch.rand(400, generator=generator)
        plan = Bootstrap(resamples=300, seed=seed)

        def model(skill: float, hard: Tensor = hard, g: torch.Generator = generator) -> Tensor:
            return hard + 0.1 * torch.randn(400, generator=g) < skill

        base = model(0.6)
        better = paired_difference(model(0.7), base, plan=plan)
        assert better.difference.low > 0, seed
        assert better.p_value < 0.05
        worse = paired_difference(base, model(0.7), plan=plan)
        assert worse.difference.high < 0
        assert worse.p_value < 0.05
        assert mcnemar(model(0.7), base).p_value < 0.05
        equal = paired_difference(model(0.6), base, plan=plan)
        invented += equal.p_value < 0.05
        # Both say the same, but for what interpolation between resamples decides.
        outside = not equal.difference.low <= 0 <= equal.difference.high
        if abs(equal.p_value - 0.05) > 0.01:
            assert outside == (equal.p_value < 0.05)
    assert invented <= 8
    same = paired_difference(base, base)
    assert (same.p_value, same.difference.low, same.difference.high) == (1.0, 0.0, 0.0)


@pytest.mark.property
@pytest.mark.parametrize("sign", [1, -1])
def test_the_p_value_is_where_the_interval_leaves_zero_out(sign):
    values = sign * ((1.5 * torch.randn(300, dtype=torch.float64)).exp() - 2.5)
    plan = Bootstrap(resamples=4_000)
    found = paired_difference(values, torch.zeros_like(values), plan=plan)
    assert 0.01 < found.p_value < 0.9
    just = Bootstrap(resamples=4_000, level=1 - found.p_value)
    edge = paired_difference(values, torch.zeros_like(values), plan=just).difference
    assert min(abs(edge.low), abs(edge.high)) < 0.01 * (edge.high - edge.low)


@pytest.mark.behaviour
def test_pairing_sees_more_than_two_intervals():
    hard = torch.rand(500)
    one, two = hard < 0.72, hard < 0.70
    assert interval(one).low < interval(two).high
    assert paired_difference(one, two).difference.low > 0


@pytest.mark.behaviour
def test_what_cannot_be_estimated_is_said():
    with pytest.raises(DataError, match="no example"):
        interval(torch.empty(0))
    with pytest.raises(DataError, match="needs two at least"):
        interval(torch.tensor([1.0, 0.0]), groups=torch.tensor([7, 7]))
    with pytest.raises(ConfigError, match="groups lie within one"):
        interval(torch.rand(2), groups=torch.tensor([0, 0]), classes=torch.tensor([0, 1]))
    with pytest.raises(DataError, match="3 examples of the first model, 2 of the second"):
        paired_difference(torch.rand(3), torch.rand(2))
    with pytest.raises(DataError, match="same examples"):
        mcnemar(torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    with pytest.raises(ConfigError, match="5 resamples"):
        Bootstrap(resamples=5)


@pytest.mark.property
def test_results_have_intervals_around_their_metrics():
    labels = torch.arange(60) % 6
    logits = torch.randn(60, 6) + 2 * torch.nn.functional.one_hot(labels, 6)
    names = tuple("abcdef")
    result = ZeroShotResult(names, logits, labels, torch.arange(60), 0)
    metrics, found = result.metrics(), result.intervals()
    assert set(found) == {"top1", "top5", "mean_per_class_recall"}
    for name, one in found.items():
        assert one.value == pytest.approx(metrics[name], abs=1e-6)
        assert one.low < metrics[name]
    owners = torch.arange(40).repeat_interleave(5)
    retrieved = RetrievalResult(
        image_features=torch.randn(40, 4),
        text_features=torch.randn(200, 4),
        owners=owners,
        indices=torch.arange(40),
        captions=("",) * 200,
        image_to_text=torch.randint(20, (40,)),
        text_to_image=torch.randint(20, (200,)),
        skipped=0,
        relevance=Relevance.of(owners, torch.arange(40), torch.arange(200)),
    )
    metrics, found = retrieved.metrics(), retrieved.intervals()
    assert len(found) == 6
    for name, one in found.items():
        assert one.value == pytest.approx(metrics[name], abs=1e-6)
        assert one.units == 40
