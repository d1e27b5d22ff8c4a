"""Mixtures: exact shares, every part at its own pace, and a position that says it all."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocal.data.loader import Loader, Samples
from bifocal.data.mixed_plan import MixedPlan, plan_of
from bifocal.data.mixture import BLOCK, Mixture, apportion
from bifocal.data.plan import Plan
from bifocal.data.sample import Sample, Source
from bifocal.data.sources import Reading, Weighted, open_source
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.preprocess import Augment, random_crop
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World


@dataclass
class Part:
    """Samples that say whose they are; each number in `bad` is a broken one."""

    identity: str
    shard_sizes: tuple[int, ...]
    class_names: tuple[str, ...] = ()
    bad: frozenset[int] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return sum(self.shard_sizes)

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise DataError("broken")
        image = np.full((8, 8, 3), index % 256, dtype=np.uint8)
        return Sample(f"{self.identity}{index}", image, self.captions(index), 0)

    def captions(self, index: int) -> tuple[str, ...]:
        return (f"{self.identity} {index}",)

    def place(self, index: int) -> str:
        return f"{self.identity}.tar"


def walked(source: Mixture, seed: int, count: int, window: int) -> list[int]:
    """Return the order by walking: deal each block, take each part's next sample as it comes up."""
    plan = MixedPlan(source, seed, window)
    plans = [Plan(part, seed, window=window) for part in source.sources]
    taken = [0] * len(plans)
    order: list[int] = []
    for block in itertools.count():
        cards = [part for part, share in enumerate(source.shares) for _ in range(share)]
        for part in plan._generator("block", block).permutation(np.array(cards, dtype=np.uint16)):
            if len(order) == count:
                return order
            order.append(source.starts[part] + plans[part].index(taken[part]))
            taken[part] += 1
    raise AssertionError


sizes = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(tuple).filter(sum)
parts = st.lists(st.tuples(sizes, st.integers(1, 9)), min_size=2, max_size=4)


def mixed(made: list[tuple[tuple[int, ...], int]]) -> Mixture:
    sources = [Part("abcd"[n], shards) for n, (shards, _) in enumerate(made)]
    return Mixture(sources, [weight for _, weight in made], block=60)


@pytest.mark.property
@given(made=parts, seed=st.integers(0, 3), window=st.integers(1, 40), data=st.data())
def test_any_position_is_what_a_walk_from_the_start_meets(made, seed, window, data):
    source = mixed(made)
    order = walked(source, seed, 240, window)
    positions = data.draw(st.lists(st.integers(0, 239), max_size=50))
    resumed = MixedPlan(source, seed, window)
    assert [resumed.index(p) for p in positions] == [order[p] for p in positions]


@pytest.mark.property
@given(made=parts, seed=st.integers(0, 3))
def test_blocks_have_exact_shares_and_each_parts_epochs_visit_each_sample_once(made, seed):
    source = mixed(made)
    plan = MixedPlan(source, seed)
    order = [plan.index(position) for position in range(360)]
    assert set(order) <= set(range(len(source)))
    starts = [*source.starts, len(source)]
    for part, share in enumerate(source.shares):
        mine = range(starts[part], starts[part + 1])
        assert all(
            sum(index in mine for index in order[block : block + 60]) == share
            for block in range(0, 360, 60)
        )
        visits = [index for index in order if index in mine]
        for first in range(0, len(visits) - len(mine) + 1, len(mine)):
            assert sorted(visits[first : first + len(mine)]) == list(mine)


@pytest.mark.property
def test_a_block_of_true_size_has_exact_shares_in_no_pattern():
    source = Mixture([Part("a", (1000,) * 90), Part("b", (50,)), Part("c", (7,))], [2, 1, 1e-4])
    assert sum(source.shares) == BLOCK
    assert source.shares == (43_689, 21_845, 2)
    plan = MixedPlan(source, 0)
    for block in (0, 10**6):
        found = [plan.part(block * BLOCK + n) for n in range(BLOCK)]
        assert tuple(Counter(part for part, _ in found)[n] for n in range(3)) == source.shares
        for part, share in enumerate(source.shares):
            ranks = [place for one, place in found if one == part]
            assert ranks == list(range(block * share, (block + 1) * share))
        batches = np.array([part for part, _ in found]).reshape(-1, 256)
        likely = 5 * (256 * 2 / 9) ** 0.5
        assert (np.abs((batches == 1).sum(axis=1) - 256 / 3) < likely).all()
    orders = [[p.part(n)[0] for n in range(500)] for p in (plan, MixedPlan(source, 1))]
    assert sum(a == b for a, b in zip(*orders, strict=True)) < 400


@pytest.mark.property
@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), total=st.integers(1, 10**6))
def test_shares_are_whole_and_nearest_to_the_weights(weights, total):
    try:
        shares = apportion(weights, total)
    except ConfigError:
        return
    assert sum(shares) == total
    ideal = [weight * total / sum(weights) for weight in weights]
    assert all(abs(s - i) < 1 + 1e-6 for s, i in zip(shares, ideal, strict=True))
    assert apportion([4 * weight for weight in weights], total) == shares


@pytest.mark.property
@settings(max_examples=4)
@given(size=st.sampled_from([1, 2, 4]), threads=st.sampled_from([0, 3]), begin=st.integers(0, 5))
def test_ranks_threads_and_resuming_change_nothing_and_substitutes_are_of_the_same_part(
    size, threads, begin
):
    source = Mixture(
        [Part("a", (40, 0, 60), bad=frozenset({5, 50})), Part("b", (30,), bad=frozenset({7}))],
        [1, 3],
    )

    def crop(image, draw):
        return random_crop(image, 4, Augment(), draw)

    def keys(world: World, threads: int, position: int, count: int) -> list[list[str]]:
        samples = Samples(source, plan_of(source, 0), Tokenizer([], 20), crop)
        samples.skips.MINIMUM = 10**6
        batches = iter(Loader(samples, 40, world=world, threads=threads, position=position))
        found = [list(next(batches).keys) for _ in range(count)]
        batches.close()
        return found

    whole = keys(World(), 0, 0, 6)
    ranks = [keys(World(rank=n, size=size), threads, 40 * begin, 6 - begin) for n in range(size)]
    assert [list(itertools.chain(*shares)) for shares in zip(*ranks, strict=True)] == whole[begin:]
    plan = plan_of(source, 0)
    wanted = ["a" if plan.index(n) < 100 else "b" for n in range(240)]
    assert [key[0] for batch in whole for key in batch] == wanted


@pytest.mark.property
def test_substitutes_stay_in_the_part_and_reach_all_of_it():
    source = Mixture([Part("a", (7, 0, 5)), Part("b", (9,))], [1, 1])
    plan = MixedPlan(source, 0)
    found = {0: set(), 1: set()}
    for position in range(200):
        found[plan.part(position)[0]] |= {plan.substitute(position, n) for n in range(4)}
    assert found == {0: set(range(12)), 1: set(range(12, 21))}


@pytest.mark.behaviour
def test_a_mixture_is_its_parts_one_behind_the_other():
    first, second = Part("a", (2, 3), ("cat",)), Part("b", (4,), ("cat",))
    source = Mixture([first, second], [1, 1])
    assert isinstance(source, Source)
    assert len(source) == 9
    assert source.shard_sizes == (2, 3, 4)
    keys = [source.read(n).key for n in range(9)]
    assert keys == [*(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(4))]
    assert (source.captions(5), source.place(4), source.place(5)) == (("b 0",), "a.tar", "b.tar")
    assert (source.class_names, source.read(0).label) == (("cat",), 0)
    other = Mixture([first, Part("b", (4,), ("dog",))], [1, 1])
    assert (other.class_names, other.read(0).label) == ((), None)


@pytest.mark.property
def test_identity_follows_parts_and_shares_but_not_the_scale_of_weights():
    a, b = Part("a", (3,)), Part("b", (4,))
    same = Mixture([a, b], [1, 2]).identity
    assert Mixture([a, b], [0.5, 1]).identity == same
    others = [Mixture([b, a], [2, 1]), Mixture([a, b], [2, 1]), Mixture([a], [1])]
    assert len({same, a.identity, *(other.identity for other in others)}) == 5


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 0], "must be positive"),
        ([1, float("nan")], "must be positive"),
        ([1, float("inf")], "must be positive"),
        ([1, 1e-6], "weight 1e-06 is less than one position in 65,536"),
    ],
)
def test_weights_that_give_no_share_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        Mixture([Part("a", (3,)), Part("b", (4,))], weights)


@pytest.mark.behaviour
def test_parts_that_cannot_be_mixed_are_refused():
    with pytest.raises(ConfigError, match="mixture of nothing"):
        Mixture([], [])
    with pytest.raises(ConfigError, match="sources 1 and 3 of the mixture are the same data"):
        Mixture([Part("a", (3,)), Part("b", (4,)), Part("a", (3,))], [1, 1, 1])
    with pytest.raises(DataError, match="source 2 of the mixture holds no sample"):
        Mixture([Part("a", (3,)), Part("b", (0,))], [1, 1])


@pytest.mark.behaviour
def test_a_list_of_weighted_paths_is_a_mixture():
    spec = [Weighted(path="scenes:train:30", weight=3), Weighted(path="scenes:val:10", weight=1)]
    source = open_source(spec, Reading())
    assert isinstance(source, Mixture)
    assert (len(source), source.shares) == (40, (49_152, 16_384))
    assert isinstance(plan_of(source, 0), MixedPlan)
    assert type(plan_of(source.sources[0], 0)) is Plan
