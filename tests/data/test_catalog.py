"""Indexes on disk: made once, for any number of shards, by any number of processes."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tar_files import HOUR_AGO, everything, shard, shards, source

from bifocal.data import archives, catalog, index, indexing
from bifocal.data.catalog import MANIFEST
from bifocal.data.index import build, from_bytes, stamp, to_bytes
from bifocal.data.shelf import BESIDE
from bifocal.errors import DataError


@pytest.mark.behaviour
def test_a_shard_is_indexed_once(tmp_path, built):
    paths = shards(tmp_path / "data")
    first = source(paths)
    assert sorted(built) == paths
    assert {path.name for path in (tmp_path / "data" / BESIDE).iterdir()} == {
        *(f"{n}.tar.index" for n in range(3)),
        MANIFEST,
    }
    again = source(paths)
    assert everything(again) == everything(first)
    assert again.identity == first.identity
    assert len(built) == 3
    # Another choice of the same shards needs no other index, and forgets none.
    source(paths[1:])
    assert source(paths).shard_sizes == (2, 3, 4)
    assert len(built) == 3


@pytest.mark.behaviour
def test_counts_and_identity_come_from_the_manifest_alone(tmp_path, monkeypatch):
    paths = shards(tmp_path / "data")
    first = source(paths)
    for path in (tmp_path / "data" / BESIDE).glob("*.index"):
        path.unlink()
    monkeypatch.setattr(indexing, "build", lambda path: pytest.fail(f"read {path}"))
    again = source(paths)
    assert (again.shard_sizes, again.identity, len(again)) == ((2, 3, 4), first.identity, 9)
    monkeypatch.undo()
    assert everything(again) == everything(first)


@pytest.mark.behaviour
def test_a_stale_index_is_made_again(tmp_path, built):
    paths = shards(tmp_path / "data")
    first = source(paths)
    shard(paths[1], "x", "y", text=b"another text", age=1800)
    second = source(paths)
    assert built[3:] == [paths[1]]
    assert [sample[0] for sample in everything(second)][2:4] == ["x", "y"]
    assert second.identity != first.identity
    assert everything(source(paths)) == everything(second)
    assert len(built) == 4


@pytest.mark.behaviour
def test_a_shard_that_may_yet_change_within_a_clocks_tick_is_not_kept(tmp_path, built):
    path = shard(tmp_path / "data" / "a.tar", "a", "b", age=0)
    assert len(source([path])) == 2
    assert not (tmp_path / "data" / BESIDE).exists()
    before = path.stat().st_mtime_ns
    shard(path, "c", "d", age=0)
    os.utime(path, ns=(before, before))
    assert [sample[0] for sample in everything(source([path]))] == ["c", "d"]
    assert len(built) == 2


@pytest.mark.behaviour
def test_an_index_of_another_version_is_made_again(tmp_path, built, monkeypatch):
    (path,) = shards(tmp_path / "data", 1)
    monkeypatch.setattr(index, "MAGIC", b"bifocal.index/0\n")
    monkeypatch.setattr(catalog, "VERSION", "bifocal.manifest/0")
    source([path])
    monkeypatch.setattr(index, "MAGIC", b"bifocal.index/1\n")
    monkeypatch.setattr(catalog, "VERSION", "bifocal.manifest/1")
    source([path])
    assert built == [path, path]


@pytest.mark.property
@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6),
    offsets=st.lists(st.integers(0, 1 << 50), min_size=12, max_size=12),
)
def test_an_index_survives_its_file(tmp_path, keys, offsets):
    path = shard(tmp_path / "a.tar", *(f"{n}{key}".replace("/", "") for n, key in enumerate(keys)))
    made, of = build(path), stamp(path)
    read, read_of = from_bytes(to_bytes(made, of))
    assert (read_of, read.digest, len(read)) == (of, made.digest, len(made))
    assert [read.sample(n) for n in range(len(read))] == [made.sample(n) for n in range(len(made))]
    for n in range(len(made)):
        key, parts = made.sample(n)
        with tarfile.open(path) as archive:
            for suffix, member in parts.items():
                info = archive.getmember(f"{key}.{suffix}")
                assert (member.offset, member.size) == (info.offset_data, info.size)


@pytest.mark.property
def test_a_source_does_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    shards(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    found = source([Path("0.tar"), Path("1.tar")])
    monkeypatch.chdir(tmp_path)
    assert [key for key, _, _ in everything(found)] == ["0-0", "0-1", "1-0", "1-1", "1-2"]


@pytest.mark.property
def test_processes_that_begin_together_agree(tmp_path):
    paths = shards(tmp_path / "data", 12)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(source(paths).identity)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert set(found) == {source(paths).identity}
    assert not list((tmp_path / "data" / BESIDE).glob("*.tmp"))


@pytest.mark.behaviour
def test_more_shards_than_open_files_are_read_in_any_order(tmp_path, monkeypatch):
    from bifocal.data import shards as room

    monkeypatch.setattr(archives, "OPEN_FILES", 2)
    monkeypatch.setattr(room, "LOADED_SAMPLES", 1)
    paths = shards(tmp_path / "data", 20)
    found = source(paths)
    before = open_files()
    samples = everything(found)
    assert [found.read(n).key for n in reversed(range(len(found)))] == [
        key for key, _, _ in reversed(samples)
    ]
    assert open_files() <= before + 2


def open_files() -> int:
    """Files that the process has open; 0 where the system does not say."""
    descriptors = Path("/proc/self/fd")
    return len(list(descriptors.iterdir())) if descriptors.exists() else 0


@pytest.mark.property
def test_many_shards_are_indexed_by_processes_to_the_same_end(tmp_path, built, monkeypatch):
    paths = [
        shard(tmp_path / "data" / f"{n:02d} é.tar", *(f"{n}-{m}" for m in range(3)))
        for n in range(33)
    ]
    young = shard(tmp_path / "data" / "young.tar", "y", age=-HOUR_AGO)
    by_threads = source([*paths, young])
    shutil.rmtree(tmp_path / "data" / BESIDE)
    built.clear()
    monkeypatch.setattr(indexing, "MANY", 32)
    monkeypatch.setattr(indexing, "PROCESSES", 1)
    by_processes = source([*paths, young])
    assert by_processes.identity == by_threads.identity
    assert built == []
    assert everything(by_processes) == everything(by_threads)
    assert built == [young]
    assert len(list((tmp_path / "data" / BESIDE).glob("*.index"))) == 33


@pytest.mark.behaviour
def test_processes_that_fail_leave_the_work_to_this_one(tmp_path, built, monkeypatch):
    paths = shards(tmp_path / "data", 20)
    monkeypatch.setattr(indexing, "MANY", 16)
    monkeypatch.setattr(indexing, "_WORKER", "raise SystemExit(3)")
    assert len(source(paths).shard_sizes) == 20
    assert sorted(built) == sorted(paths)


@pytest.mark.behaviour
def test_a_shard_that_cannot_be_read_is_named_whoever_reads_it(tmp_path, monkeypatch, capsys):
    paths = shards(tmp_path / "data", 3)
    paths[1].unlink()
    paths[1].mkdir()
    names = "\0".join(map(str, paths)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    indexing.work()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(n, is_kept, samples) for n, is_kept, _, samples, *_ in told] == [
        (0, True, 2),
        (2, True, 4),
    ]
    with pytest.raises(DataError, match=r"cannot open the shard .*1\.tar: it is not a file"):
        source(paths)
