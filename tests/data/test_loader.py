"""Batches: the same data for every number of ranks and threads, bad samples counted."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocal.data.batch import Batch
from bifocal.data.loader import ATTEMPTS, Canvas, Loader, Samples, Skips
from bifocal.data.plan import Plan
from bifocal.data.sample import Sample
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.preprocess import Augment, Draw, random_crop
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World

TOKENIZER = Tokenizer([("a", "b</w>")], context_length=8)


@dataclass
class Memory:
    """Small pictures that show their index; each number in `bad` is a broken sample."""

    length: int
    bad: frozenset[int] = frozenset()
    identity: str = "memory"
    class_names: tuple[str, ...] = ()
    reads: set[int] = field(default_factory=set)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        return (self.length // 3, self.length - self.length // 3)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Sample:
        self.reads.add(index)
        if index in self.bad:
            raise DataError("no caption" if index % 2 else "truncated or damaged picture")
        image = np.random.default_rng(index).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        return Sample(f"{index:04d}", image, self.captions(index), None)

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(f"{'ab ' * (index % 9)}{n}" for n in range(index % 3 + 1))

    def place(self, index: int) -> str:
        return f"shard-{int(index >= self.length // 3)}"


def crop(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    return random_crop(image, 6, Augment(min_area=0.3, horizontal_flip=True), draw)


def loader(
    source: Memory,
    batch_size: int = 8,
    *,
    world: World | None = None,
    skips: Skips | None = None,
    **options: int,
) -> Loader:
    samples = Samples(source, Plan(source, 0), TOKENIZER, crop, skips or Skips())
    return Loader(samples, batch_size, world=world or World(), **options)


def take(batches: Loader, count: int) -> list[Batch]:
    iterator = iter(batches)
    found = list(itertools.islice(iterator, count))
    iterator.close()
    return found


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.keys == b.keys
        assert a.cursor == b.cursor
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.lengths, b.lengths)


def joined(ranks: list[list[Batch]]) -> list[Batch]:
    """Put the parts that ranks hold of each batch together again."""
    batches = []
    for parts in zip(*ranks, strict=True):
        assert len({part.cursor for part in parts}) == 1
        width = max(part.tokens.shape[1] for part in parts)
        tokens = [torch.nn.functional.pad(p.tokens, (0, width - p.tokens.shape[1])) for p in parts]
        batches.append(
            Batch(
                images=torch.cat([part.images for part in parts]),
                tokens=torch.cat(tokens),
                lengths=torch.cat([part.lengths for part in parts]),
                keys=tuple(key for part in parts for key in part.keys),
                positions=torch.cat([part.positions for part in parts]),
                cursor=parts[0].cursor,
            )
        )
    return batches


@pytest.mark.property
@settings(max_examples=12)
@given(
    size=st.sampled_from([1, 2, 4]),
    threads=st.sampled_from([0, 1, 3]),
    batch_size=st.sampled_from([4, 8, 20, 40]),
    bad=st.frozensets(st.integers(0, 49), max_size=6),
)
def test_the_data_are_the_same_for_every_number_of_ranks_and_threads(
    size, threads, batch_size, bad
):
    alone = take(loader(Memory(50, bad), batch_size), 4)
    ranks = [
        take(loader(Memory(50, bad), batch_size, world=World(r, size), threads=threads), 4)
        for r in range(size)
    ]
    assert_same(joined(ranks), alone)
    assert torch.cat([batch.positions for batch in alone]).tolist() == [*range(4 * batch_size)]
    assert [batch.cursor.position for batch in alone] == [n * batch_size for n in (1, 2, 3, 4)]


@pytest.mark.property
@settings(max_examples=12)
@given(stop=st.integers(0, 20), threads=st.sampled_from([0, 1, 3]))
def test_resuming_at_a_cursor_continues_the_same_batches(stop, threads):
    bad = frozenset({3, 11})
    whole = take(loader(Memory(30, bad)), stop + 3)
    cursor = whole[stop - 1].cursor.position if stop else 0
    resumed = take(loader(Memory(30, bad), position=cursor, threads=threads), 3)
    assert_same(resumed, whole[stop:])


@pytest.mark.property
def test_an_epoch_shows_every_pair_once_and_padding_is_no_longer_than_needed():
    batches = take(loader(Memory(48)), 12)
    for epoch in (batches[:6], batches[6:]):
        keys = [key for batch in epoch for key in batch.keys]
        assert sorted(keys) == [f"{n:04d}" for n in range(48)]
    for batch in batches:
        assert batch.images.shape == (8, 3, 6, 6)
        assert batch.images.dtype == torch.uint8
        assert batch.tokens.shape[1] == batch.lengths.max()
        ends = batch.tokens[torch.arange(8), batch.lengths - 1]
        assert (ends == TOKENIZER.end).all()
    # Which of its captions stands beside a picture varies from epoch to epoch.
    first, second = (
        {
            key: row.tolist()
            for batch in part
            for key, row in zip(batch.keys, batch.tokens, strict=True)
        }
        for part in (batches[:6], batches[6:])
    )
    told = [(first[f"{n:04d}"], second[f"{n:04d}"]) for n in range(2, 48, 9)]
    ends = {tuple(row[row.index(TOKENIZER.end) - 1] for row in pair) for pair in told}
    assert any(one != other for one, other in ends)


@pytest.mark.behaviour
def test_bad_samples_are_replaced_and_counted_by_place_and_reason():
    bad = {2, 3, 20}
    samples = loader(Memory(24, frozenset(bad))).samples
    keys = [one.key for one in samples.prepare(range(24), Canvas(24))]
    assert len(keys) == 24
    assert set(keys) == {f"{n:04d}" for n in range(24) if n not in bad}
    # Substitutes may be bad themselves, hence "at least".
    counts = samples.skips.counts
    assert counts["shard-0", "truncated or damaged picture"] >= 1
    assert counts["shard-0", "no caption"] >= 1
    assert counts["shard-1", "truncated or damaged picture"] >= 1
    assert len(counts) == 3
    assert "x no caption in shard-0" in samples.skips.describe()
    assert samples.skips.seen == 24


@pytest.mark.behaviour
@pytest.mark.parametrize("threads", [0, 1, 8])
def test_too_many_bad_samples_stop_the_run_with_the_counts(threads):
    # Half of all that is read is bad, substitutes included.
    source = Memory(400, frozenset(range(0, 400, 2)))
    skips = Skips(limit=0.35)
    with pytest.raises(DataError, match=r"bad, more than the share of\s35%") as stopped:
        take(loader(source, batch_size=100, skips=skips, threads=threads), 20)
    assert "truncated or damaged picture in shard-0" in str(stopped.value)
    assert skips.counts.total() >= Skips.MINIMUM
    skips = Skips(limit=0.65)
    take(loader(source, batch_size=100, skips=skips, threads=threads), 20)
    assert skips.counts.total() / (skips.counts.total() + skips.seen) == pytest.approx(0.5, abs=0.1)


@pytest.mark.behaviour
def test_nothing_but_bad_samples_ends_at_once():
    with pytest.raises(DataError, match=f"{ATTEMPTS} samples in a row are bad"):
        take(loader(Memory(20, frozenset(range(20)))), 1)


@pytest.mark.behaviour
def test_captions_beyond_the_context_are_cut_and_counted():
    samples = loader(Memory(9)).samples
    rows = {one.key: one.tokens for one in samples.prepare(range(9), Canvas(9))}
    # Sample n says "ab" n times and a number: six ids fit between start and end.
    assert rows["0008"][-1] == TOKENIZER.end
    assert rows["0008"].count(TOKENIZER.ids["ab</w>"]) == 6
    assert rows["0002"].count(TOKENIZER.ids["ab</w>"]) == 2
    assert samples.skips.seen == 9
    assert samples.skips.truncated == 3  # samples 6, 7 and 8


@pytest.mark.behaviour
def test_a_label_without_templates_is_a_counted_skip():
    class Labelled(Memory):
        def captions(self, index: int) -> tuple[str, ...]:
            return () if index == 1 else ("ab",)

    skips = Skips()
    batch = take(loader(Labelled(12), batch_size=12, skips=skips), 1)[0]
    assert "0001" not in batch.keys
    assert skips.counts["shard-0", "label without templates"] >= 1


@pytest.mark.behaviour
def test_batches_that_cannot_be_made_are_refused():
    with pytest.raises(ConfigError, match=r"batch of 9 pairs from data of 8.*batch_size to 8"):
        loader(Memory(8), batch_size=9)
    loader(Memory(8), batch_size=8)
    with pytest.raises(ConfigError, match="8 does not divide among 3 processes"):
        loader(Memory(8), batch_size=8, world=World(0, 3))


@pytest.mark.behaviour
def test_reading_ahead_is_bounded_and_stops_with_the_loop():
    source = Memory(1000)
    before = threading.active_count()
    iterator = iter(loader(source, batch_size=10, threads=2))
    next(iterator)
    for _ in range(100):
        read = len(source.reads)
        time.sleep(0.02)
        if read == len(source.reads) >= 20:
            break
    # Two batches lie ready beside the one in use.
    assert read == 30
    iterator.close()
    assert threading.active_count() == before


@pytest.mark.behaviour
def test_a_fault_of_the_program_is_not_taken_for_a_bad_sample():
    class Broken(Memory):
        def read(self, index: int) -> Sample:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take(loader(Broken(20)), 1)
