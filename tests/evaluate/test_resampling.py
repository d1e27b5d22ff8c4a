"""Intervals of medians, areas and calibration errors, against the same on examples repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from bifocal.errors import ConfigError
from bifocal.evaluate.calibration import calibration, calibration_intervals, proper_scores
from bifocal.evaluate.paper_score import paper_interval, paper_score
from bifocal.evaluate.resampling import median_of, percentile_interval, roc_auc_of
from bifocal.evaluate.units import Bootstrap
from bifocal.evaluate.zero_shot import ZeroShotResult


def weights(seed: int, examples: int) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    return torch.from_numpy(draws.multinomial(examples, [1 / examples] * examples, 20)).double()


@pytest.mark.parity
@pytest.mark.parametrize("examples", [5, 40])
def test_statistics_of_weights_are_those_of_repeated_examples(examples):
    draws = torch.Generator().manual_seed(examples)
    ranks = torch.randint(1, 9, (examples,), generator=draws)
    scores = torch.randint(0, 6, (examples,), generator=draws).double()
    positive = torch.arange(examples) % 2 == 0
    drawn = weights(0, examples)
    medians, areas = median_of(ranks)(drawn), roc_auc_of(scores, positive)(drawn)
    for n, counts in enumerate(drawn.long()):
        repeated = ranks.repeat_interleave(counts)
        assert medians[n] == repeated.median()
        flags = positive.repeat_interleave(counts)
        if 0 < int(flags.sum()) < examples:
            expected = roc_auc_score(flags, scores.repeat_interleave(counts))
            assert areas[n].item() == pytest.approx(expected)
        else:
            assert math.isnan(areas[n])


@pytest.mark.golden
def test_bounds_are_those_of_theory():
    draws = torch.Generator().manual_seed(1)
    # The median of n normal numbers has the standard deviation √(π / 2n).
    values = torch.randn(2_000, generator=draws)
    found = percentile_interval(median_of(values), len(values))
    assert found is not None
    assert found.value == pytest.approx(values.median().item())
    assert found.high - found.low == pytest.approx(2 * 1.96 * (math.pi / 4_000) ** 0.5, rel=0.2)
    # Captions of a picture that agree are as good as one: √4 wider.
    groups = torch.arange(500).repeat_interleave(4)
    some = values[:500].repeat_interleave(4)
    wide = percentile_interval(median_of(some), 2_000, groups=groups)
    assert wide is not None
    assert wide.units == 500
    assert (wide.high - wide.low) / (found.high - found.low) == pytest.approx(2, rel=0.3)
    # Hanley & McNeil 1982 for an area of ½ with 300 of either kind: √((601) / (12 · 300²)).
    scores, positive = torch.randn(600, generator=draws), torch.arange(600) < 300
    area = percentile_interval(roc_auc_of(scores, positive), 600, classes=positive.long())
    assert area is not None
    width = 2 * 1.96 * (601 / (12 * 300**2)) ** 0.5
    assert area.high - area.low == pytest.approx(width, rel=0.1)


@pytest.mark.behaviour
def test_what_is_not_defined_has_no_interval():
    ones = torch.ones(4, dtype=torch.bool)
    assert percentile_interval(roc_auc_of(torch.rand(4), ones), 4) is None
    assert percentile_interval(median_of(torch.rand(1)), 1) is None
    assert calibration_intervals(torch.rand(1, 3), torch.tensor([0])) == {}


@pytest.mark.property
def test_calibration_has_intervals_that_hold_its_figures():
    draws = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(400, 7, generator=draws)
    labels = torch.randint(0, 7, (400,), generator=draws)
    found, intervals = calibration(logits, labels), calibration_intervals(logits, labels)
    assert intervals.keys() == found.metrics().keys()
    for name, value in found.metrics().items():
        assert intervals[name].value == pytest.approx(value)
        assert intervals[name].low <= value <= intervals[name].high
        assert intervals[name].high > intervals[name].low
    scores = proper_scores(logits, labels)
    p = logits.double().softmax(1)
    own = torch.nn.functional.one_hot(labels, 7)
    torch.testing.assert_close(scores["brier"], (p - own).square().sum(1))
    torch.testing.assert_close(scores["nll"], -p[torch.arange(400), labels].log())


@pytest.mark.behaviour
def test_every_metric_of_the_paper_has_an_interval():
    draws = torch.Generator().manual_seed(3)

    def result(classes: int) -> ZeroShotResult:
        logits = torch.randn(60, classes, generator=draws)
        labels = torch.arange(60) % classes
        names = tuple(map(str, range(classes)))
        return ZeroShotResult(names, logits, labels, torch.arange(60), 0)

    many, two = result(8), result(2)
    for metric in ("top1", "mean_per_class_recall", "mean_of_top1_and_top5"):
        found = paper_interval(many, metric, Bootstrap(resamples=200))
        assert found is not None
        assert found.value == pytest.approx(paper_score(many, metric))
        assert found.low < found.value < found.high
    area = paper_interval(two, "roc_auc", Bootstrap(resamples=200))
    assert area is not None
    assert area.value == pytest.approx(paper_score(two, "roc_auc"))
    assert area.low < area.value < area.high
    assert "top5" not in two.metrics()
    with pytest.raises(ConfigError, match="five guesses are always right"):
        paper_score(two, "mean_of_top1_and_top5")
