"""The order of the data as a pure function of identity, seed and position."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data.plan import WINDOW, Plan
from bifocal.data.sample import Sample
from bifocal.errors import DataError
from bifocal.inputs.preprocess import Draw


@dataclass
class Sizes:
    """A source that only has sizes."""

    shard_sizes: tuple[int, ...]
    identity: str = "a"
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(self.shard_sizes)

    def read(self, index: int) -> Sample:
        raise AssertionError("a plan reads nothing")

    def captions(self, index: int) -> tuple[str, ...]:
        raise AssertionError("a plan reads nothing")

    def place(self, index: int) -> str:
        raise AssertionError("a plan reads nothing")


shard_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=8).map(tuple).filter(sum)


def epoch(plan: Plan, number: int) -> list[int]:
    return [plan.index(number * plan.size + place) for place in range(plan.size)]


@pytest.mark.property
@given(sizes=shard_sizes, window=st.integers(1, 64), seed=st.integers(0, 5), n=st.integers(0, 3))
def test_every_epoch_is_a_permutation(sizes, window, seed, n):
    plan = Plan(Sizes(sizes), seed, window=window)
    assert sorted(epoch(plan, n)) == list(range(sum(sizes)))


@pytest.mark.property
@given(sizes=shard_sizes, window=st.integers(1, 64), data=st.data())
def test_the_order_does_not_depend_on_how_it_is_asked_for(sizes, window, data):
    positions = st.lists(st.integers(0, 4 * sum(sizes)), max_size=60)
    walked = Plan(Sizes(sizes), 1, window=window)
    asked = Plan(Sizes(sizes), 1, window=window)
    known = {p: (walked.index(p), walked.draw(p)) for p in range(4 * sum(sizes) + 1)}
    for position in data.draw(positions):
        assert (asked.index(position), asked.draw(position)) == known[position]


@pytest.mark.property
@pytest.mark.parametrize("window", [1 << 16, 50])
def test_epochs_seeds_and_data_differ(window):
    source = Sizes((100, 60, 140))
    orders = [
        epoch(Plan(source, 0, window=window), 0),
        epoch(Plan(source, 0, window=window), 1),
        epoch(Plan(source, 1, window=window), 0),
        epoch(Plan(Sizes((100, 60, 140), "b"), 0, window=window), 0),
        list(range(300)),
    ]
    for n, order in enumerate(orders):
        for other in orders[:n]:
            assert sum(a == b for a, b in zip(order, other, strict=True)) < 40
    first, other = Plan(source, 0), Plan(source, 1)
    assert first.draw(0) != first.draw(1)
    assert first.draw(0) != first.draw(300)
    assert first.draw(0) != other.draw(0)


@pytest.mark.property
def test_a_window_stays_in_few_shards():
    plan = Plan(Sizes((50,) * 20), 0, window=100)
    for window in range(10):
        places = range(100 * window, 100 * window + 100)
        assert len({plan.index(place) // 50 for place in places}) == 2


@pytest.mark.golden
def test_the_order_is_the_one_that_runs_were_trained_in():
    # Origin: this package's first release; another order would break every resumed run.
    plan = Plan(Sizes((5, 3, 4)), 7, window=4)
    assert [plan.index(place) for place in range(12)] == [11, 9, 10, 8, 6, 5, 7, 0, 2, 1, 3, 4]
    assert [plan.index(place) for place in range(12, 20)] == [6, 0, 5, 7, 3, 2, 1, 4]
    drawn = (0.47322425656848954, 0.7518759472156502, 0.5825430269882693)
    assert plan.draw(5) == Draw(*drawn, flip=0.9412912140872423, caption=0.2863420635809135)
    substitutes = [plan.substitute(place, place % 3) for place in range(12)]
    assert substitutes == [7, 5, 6, 0, 3, 1, 2, 3, 5, 0, 7, 7]


@pytest.mark.property
def test_a_position_among_400_million_is_found_without_walking_to_it():
    plan = Plan(Sizes((10_000,) * 40_000), 0)
    drawn = []
    order = plan._permute_window
    plan._window_order = lambda epoch, window: drawn.append(window) or order(epoch, window)
    start = 280_000_000 - 280_000_000 % WINDOW
    tracemalloc.start()
    found = {plan.index(start + n) for n in range(0, WINDOW, 997)}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == len(range(0, WINDOW, 997))
    assert set(drawn) == {start // WINDOW}
    assert len({n // 10_000 for n in found}) <= WINDOW // 10_000 + 2
    assert peak < 8 << 20


@pytest.mark.property
def test_plans_do_not_push_out_each_others_orders():
    plans = [Plan(Sizes((50,) * 20), seed, window=100) for seed in range(4)]
    for window in range(8):
        for plan in plans:
            plan.index(100 * window)
    assert [plan._window_order.cache_info().misses for plan in plans] == [8] * 4
    for plan in plans:
        plan.index(0)
    assert [plan._window_order.cache_info().hits for plan in plans] == [1] * 4


@pytest.mark.property
def test_draws_are_uniform_and_independent():
    plan = Plan(Sizes((10,)), 0)
    draws = [plan.draw(position) for position in range(4000)]
    names = ("area", "x", "y", "flip", "caption")
    table = np.array([[getattr(draw, name) for name in names] for draw in draws])
    assert table.min() >= 0
    assert table.max() < 1
    for column in table.T:
        counts = np.histogram(column, bins=10, range=(0, 1))[0]
        assert (np.abs(counts - 400) < 5 * 400**0.5).all()
    correlations = np.corrcoef(table.T) - np.eye(5)
    assert np.abs(correlations).max() < 5 / 4000**0.5


@pytest.mark.property
def test_substitutes_are_in_range_spread_and_fixed():
    plan = Plan(Sizes((7, 0, 30)), 0)
    found = [plan.substitute(p, a) for p in range(100) for a in range(16)]
    assert set(found) == set(range(37))
    again = Plan(Sizes((7, 0, 30)), 0)
    assert found == [again.substitute(p, a) for p in range(100) for a in range(16)]


@pytest.mark.behaviour
def test_an_unshuffled_plan_keeps_the_sources_order():
    plan = Plan(Sizes((3, 4)), 0, shuffle=False)
    assert [plan.index(p) for p in range(14)] == [*range(7), *range(7)]


@pytest.mark.behaviour
def test_an_empty_source_is_refused():
    with pytest.raises(DataError, match="hold no sample"):
        Plan(Sizes((0, 0)), 0)
