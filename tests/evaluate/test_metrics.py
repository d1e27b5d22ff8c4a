"""Ranks, recalls and accuracies against brute force; ties and broken scores never help."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.evaluate.metrics import confusion, mean_over_classes, rank_of_best, share
from bifocal.evaluate.retrieval import chance
from bifocal.evaluate.zero_shot import ZeroShotResult

# Few distinct scores, so that many tie; some are no number, as a diverged model has them.
score = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, math.nan])


def better(score: float, other: float) -> bool:
    """Whether a score beats another; a tie or no number does not."""
    return score > other


@st.composite
def scored(draw: st.DrawFn) -> tuple[list[list[float]], list[list[bool]]]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    line = st.lists(score, min_size=columns, max_size=columns)
    flags = st.lists(st.booleans(), min_size=columns, max_size=columns)
    return (
        draw(st.lists(line, min_size=rows, max_size=rows)),
        draw(st.lists(flags, min_size=rows, max_size=rows)),
    )


@pytest.mark.property
@given(case=scored())
def test_ranks_are_those_of_brute_force(case):
    scores, relevant = case
    found = rank_of_best(torch.tensor(scores), torch.tensor(relevant)).tolist()
    for row, flags, rank in zip(scores, relevant, found, strict=True):
        good = [s for s, flag in zip(row, flags, strict=True) if flag]
        bad = [s for s, flag in zip(row, flags, strict=True) if not flag]
        if not good:
            assert rank == len(row)
        elif any(map(math.isnan, good)):
            # One score that is no number says that the others mean nothing.
            assert rank == len(bad)
        else:
            assert rank == sum(not better(max(good), other) for other in bad)


@pytest.mark.property
@given(case=scored(), k=st.integers(1, 8), data=st.data())
def test_top_k_is_that_of_brute_force(case, k, data):
    scores, _ = case
    classes = len(scores[0])
    labels = [data.draw(st.integers(0, classes - 1)) for _ in scores]
    right = 0
    for row, label in zip(scores, labels, strict=True):
        others = [s for n, s in enumerate(row) if n != label]
        right += sum(not better(row[label], other) for other in others) < k
    own = torch.tensor(labels)[:, None] == torch.arange(classes)
    found = share(rank_of_best(torch.tensor(scores), own) < k)
    assert found == pytest.approx(right / len(scores))


@pytest.mark.behaviour
def test_a_model_that_says_nothing_or_nonsense_is_never_right():
    labels = torch.zeros(4, dtype=torch.long)
    for value in (1.0, math.nan, math.inf, -math.inf):
        logits = torch.full((4, 3), value)
        result = ZeroShotResult(tuple("abc"), logits, labels, torch.arange(4), 0)
        assert result.metrics()["top1"] == 0
        relevant = torch.tensor([[True, False, False]] * 4)
        assert rank_of_best(logits, relevant).tolist() == [2] * 4


@pytest.mark.golden
def test_the_mean_over_classes_weighs_rare_ones_alike():
    # Class 0: 3 of 4 found; class 1: 0 of 1; class 2 does not occur; class 3: 2 of 2.
    labels = torch.tensor([0, 0, 0, 0, 1, 3, 3])
    guesses = torch.tensor([0, 0, 0, 2, 0, 3, 3])
    assert mean_over_classes(guesses == labels, labels) == pytest.approx((0.75 + 0 + 1) / 3)
    table = confusion(guesses, labels, 4)
    assert table.tolist() == [[3, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]


@pytest.mark.property
@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4), k=st.integers(1, 5))
def test_chance_is_that_of_all_draws(counts, k):
    owners = [picture for picture, count in enumerate(counts) for _ in range(count)]
    draws = list(combinations(owners, min(k, len(owners))))
    hits = [sum(picture in draw for draw in draws) / len(draws) for picture in range(len(counts))]
    expected = sum(hits) / len(hits)
    assert chance(torch.tensor(counts), len(owners), k) == pytest.approx(expected)


@pytest.mark.golden
def test_chance_of_one_caption_a_picture_is_k_of_n():
    assert chance(torch.ones(1000, dtype=torch.long), 1000, 10) == pytest.approx(0.01)
    assert chance(torch.full((1000,), 5), 5000, 1) == pytest.approx(5 / 5000)
