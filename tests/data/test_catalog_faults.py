"""Indexes on disk: never believed when stale or damaged, never in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_files import everything, shard, shards, source

from bifocal.data import shelf
from bifocal.data.catalog import MANIFEST, Catalog
from bifocal.data.shelf import BESIDE
from bifocal.errors import DataError
from bifocal.files import write_atomically


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Shards with their indexes: paths, what they hold, and the files as they should be."""
    folder = tmp_path_factory.mktemp("kept") / "data"
    paths = shards(folder)
    found = source(paths)
    whole = {path.name: path.read_bytes() for path in (folder / BESIDE).iterdir()}
    return paths, (found.identity, everything(found)), whole


@pytest.mark.property
@settings(max_examples=20)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
@pytest.mark.parametrize("name", ["1.tar.index", MANIFEST])
def test_a_damaged_index_or_manifest_is_never_believed(tmp_path, kept, name, place, flip, cut):
    paths, expected, whole = kept
    raw = bytearray(whole[name])
    at = int(place * len(raw))
    raw[at] ^= flip
    (paths[0].parent / BESIDE / name).write_bytes(raw[:at] if cut else raw)
    if name != MANIFEST:
        (paths[0].parent / BESIDE / MANIFEST).unlink(missing_ok=True)
    found = source(paths)
    assert (found.identity, everything(found)) == expected
    assert (paths[0].parent / BESIDE / name).read_bytes() == whole[name]


@pytest.mark.behaviour
def test_a_read_only_folder_is_left_alone_and_the_cache_serves(tmp_path, built, caplog):
    paths = shards(tmp_path / "data")
    (tmp_path / "data").chmod(0o555)
    with caplog.at_level(logging.WARNING):
        first = source(paths)
        assert len(caplog.records) == 1
        assert "read-only" in caplog.text
        assert str(tmp_path / "cache") in caplog.text
        assert everything(source(paths)) == everything(first)
    assert len(built) == 3
    assert len(caplog.records) == 1
    (tmp_path / "data").chmod(0o755)
    assert not (tmp_path / "data" / BESIDE).exists()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "fault", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO]
)
def test_where_nothing_can_be_written_memory_serves(tmp_path, built, caplog, monkeypatch, fault):
    paths = shards(tmp_path / "data")

    def fails(path: Path, data: bytes) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(shelf, "write_atomically", fails)
    with caplog.at_level(logging.WARNING):
        found = source(paths)
    assert len(everything(found)) == 9
    assert len(built) == 3
    assert [record.getMessage().count(os.strerror(fault)) for record in caplog.records] == [1, 1]
    assert "memory alone" in caplog.records[1].getMessage()
    assert len(everything(source(paths))) == 9


@pytest.mark.behaviour
def test_without_a_home_memory_serves(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    paths = shards(tmp_path / "data")
    (tmp_path / "data").chmod(0o555)
    assert len(everything(source(paths))) == 9


@pytest.mark.property
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "kept" / "a"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == {"a": b"old"}


@pytest.mark.behaviour
def test_what_a_killed_process_leaves_is_not_taken_for_an_index(tmp_path, built):
    paths = shards(tmp_path / "data", 1)
    beside = tmp_path / "data" / BESIDE
    beside.mkdir()
    (beside / "0.tar.index.1-2.tmp").write_bytes(b"half an ind")
    (beside / "0.tar.index").write_bytes(b"")
    assert len(everything(source(paths))) == 2
    assert built == paths
    assert len(source(paths)) == 2
    assert built == paths


@pytest.mark.behaviour
def test_a_shard_that_changes_while_in_use_is_a_reason_and_not_other_data(tmp_path):
    paths = shards(tmp_path / "data")
    found = Catalog(paths)
    shutil.rmtree(tmp_path / "data" / BESIDE)
    shard(paths[1], "x", "y", "z", age=100)
    assert found.index(0).sample(0)[0] == "0-0"
    for _ in range(2):
        with pytest.raises(DataError, match=r"^shard changed while in use$"):
            found.index(1)
    paths[2].unlink()
    with pytest.raises(DataError, match=r"cannot open the shard .*2\.tar"):
        found.index(2)


@pytest.mark.behaviour
def test_an_index_is_not_used_on_a_shard_that_was_replaced(tmp_path):
    paths = shards(tmp_path / "data")
    found = source(paths)
    kept = found.read(0).key
    for path, key in zip(paths, "xyz", strict=True):
        path.unlink()
        shard(path, *(f"{key}{n}" for n in range(4)), age=100)
    # An open file is still the old one; what is opened from now on is known to be another.
    assert found.read(0).key == kept
    for n in range(2, len(found)):
        with pytest.raises(DataError, match=r"^shard changed while in use$"):
            found.read(n)


@pytest.mark.behaviour
def test_losses_are_kept_with_the_index_and_told_once_a_source(tmp_path, caplog):
    paths = shards(tmp_path / "data")
    raw = bytearray(paths[2].read_bytes())
    raw[512 * 6 : 512 * 7] = b"\xff" * 512  # the header of the second sample's text
    before = paths[2].stat().st_mtime
    paths[2].write_bytes(raw)
    os.utime(paths[2], (before, before))
    for _ in range(2):
        caplog.clear()
        found = source(paths)
        assert found.losses == {
            ("2.tar", "damaged header"): 1,
            ("2.tar", "picture without caption"): 1,
        }
        assert found.shard_sizes == (2, 3, 3)
        assert len(caplog.records) == 1
        assert "1x damaged header in 2.tar" in caplog.text
    manifest = (tmp_path / "data" / BESIDE / MANIFEST).read_bytes().partition(b"\n")[2]
    assert list(json.loads(manifest)["losses"]) == ["2.tar"]
