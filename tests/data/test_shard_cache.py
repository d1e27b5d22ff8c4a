"""The cache of fetched shards: bounded, shared, never half."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data import cache
from bifocal.data.archive import Member, Reader
from bifocal.data.cache import ShardCache
from bifocal.data.index import Stamp
from bifocal.errors import ConfigError, TrainingError

SIZE = 1000


class Fetches:
    """Writes shard n as SIZE times its number; counts."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache = cache
        self.count = 0

    def open(self, n: int) -> Reader:
        def fetch(to: Path) -> None:
            self.count += 1
            to.write_bytes(bytes([n]) * SIZE)

        return self.cache.open(self.cache.path(f"s://b/{n}.tar", Stamp(SIZE, 0)), fetch)


def content(reader: Reader) -> bytes:
    return reader.read(Member("a", 0, SIZE))


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


@pytest.mark.property
@given(
    steps=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30),
    room=st.integers(2, 5),
)
def test_what_was_opened_longest_ago_goes_unless_it_is_in_use(tmp_path_factory, steps, room):
    folder = tmp_path_factory.mktemp("cache")
    fetches = Fetches(ShardCache(folder, room * SIZE + SIZE // 2))
    known: OrderedDict[int, None] = OrderedDict()
    held: dict[int, Reader] = {}
    count = 0
    for n, keep in steps:
        if n not in known:
            count += 1
            for other in list(known):
                if len(known) < room:
                    break
                if other not in held:
                    del known[other]
        known[n] = None
        known.move_to_end(n)
        reader = fetches.open(n)
        assert content(reader) == bytes([n]) * SIZE
        held.pop(n, None)
        if keep and len(held) < room - 1:
            held[n] = reader
        del reader
        assert fetches.count == count
        assert sum(path.stat().st_size for path in folder.iterdir()) <= room * SIZE
        names = {fetches.cache.path(f"s://b/{m}.tar", Stamp(SIZE, 0)).name for m in known}
        assert kept(folder) == names
    held.clear()


@pytest.mark.behaviour
def test_where_all_is_in_use_the_limit_gives_way_and_one_is_told(tmp_path, caplog):
    fetches = Fetches(ShardCache(tmp_path, 2 * SIZE))
    with caplog.at_level(logging.WARNING):
        readers = [fetches.open(n) for n in range(4)]
    assert [content(reader)[0] for reader in readers] == [0, 1, 2, 3]
    assert len(caplog.records) == 1
    assert "data.cache_gb" in caplog.text
    readers.clear()
    fetches.open(5)
    assert len(kept(tmp_path)) == 2


@pytest.mark.property
def test_threads_that_want_one_shard_fetch_it_once(tmp_path):
    fetches = Fetches(ShardCache(tmp_path, 100 * SIZE))
    barrier = threading.Barrier(8)

    def read(n: int) -> bytes:
        barrier.wait()
        return content(fetches.open(n // 4))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))
    assert found == [bytes([n // 4]) * SIZE for n in range(8)]
    assert fetches.count == 2


@pytest.mark.property
def test_threads_under_pressure_read_what_they_asked_for(tmp_path):
    fetches = Fetches(ShardCache(tmp_path, 3 * SIZE))

    def read(n: int) -> bool:
        return content(fetches.open(n * 5 % 9)) == bytes([n * 5 % 9]) * SIZE

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(300)))
    fetches.open(0)
    assert len(kept(tmp_path)) <= 3


@pytest.mark.property
def test_a_fetch_that_ends_while_room_is_made_is_counted(tmp_path, monkeypatch):
    fetches = Fetches(ShardCache(tmp_path, 2 * SIZE + SIZE // 2))
    fetches.open(0)
    fetching, looked, ended = (threading.Event() for _ in range(3))

    def fetch(to: Path) -> None:
        to.write_bytes(b"1" * SIZE)
        fetching.set()
        looked.wait(10)

    coming = fetches.cache.path("s://b/1.tar", Stamp(SIZE, 0))

    def other() -> None:
        fetches.cache.open(coming, fetch)
        ended.set()

    def evict(path: Path) -> bool:
        if fetching.is_set() and path == coming.with_suffix(".part"):  # it was there
            looked.set()
            ended.wait(0.5)  # where it may end now, it does
        return removed(path)

    removed = cache._evict
    monkeypatch.setattr(cache, "_evict", evict)
    thread = threading.Thread(target=other)
    thread.start()
    assert fetching.wait(10)
    fetches.open(2)
    thread.join(10)
    assert len(kept(tmp_path)) == 2, "the first one made room"


@pytest.mark.behaviour
def test_a_fetch_that_fails_leaves_nothing_and_is_told_to_all_who_wait(tmp_path):
    cache = ShardCache(tmp_path, 100 * SIZE)
    path = cache.path("s://b/a.tar", Stamp(SIZE, 0))
    waiting, tries = threading.Barrier(4), []

    def fetch(to: Path) -> None:
        tries.append(to)
        to.with_name(to.name + ".x").write_bytes(b"half")
        threading.Event().wait(0.2)
        raise TrainingError("the store is down")

    def read(_: int) -> str:
        waiting.wait()
        with pytest.raises(TrainingError) as told:
            cache.open(path, fetch)
        return str(told.value)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(4))) == {"the store is down"}
    assert len(tries) == 1
    # Later, it is worth another try, which clears what is left.
    reader = cache.open(path, lambda to: to.write_bytes(b"x" * SIZE) and None)
    assert content(reader) == b"x" * SIZE
    assert kept(tmp_path) == {path.name}


@pytest.mark.behaviour
def test_what_the_dead_left_is_cleared_and_what_is_damaged_is_fetched_again(tmp_path):
    fetches = Fetches(ShardCache(tmp_path, 3 * SIZE))
    dead = fetches.cache.path("s://b/dead.tar", Stamp(2 * SIZE, 0))
    dead.with_suffix(".part").touch()
    dead.with_suffix(".tmp.1234").write_bytes(b"half of it")
    (tmp_path / "0123-1000.tmp.9").write_bytes(b"nobody's")
    fetches.open(1)
    one = fetches.cache.path("s://b/1.tar", Stamp(SIZE, 0))
    assert kept(tmp_path) == {one.name}
    os.truncate(one, 10)
    assert content(fetches.open(1)) == b"\1" * SIZE
    assert fetches.count == 2


@pytest.mark.behaviour
def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot keep shards in .*file/x.*data\.cache_dir"):
        ShardCache(tmp_path / "file" / "x", 1)
