"""Shards of a store in the cache: bounded, fetched ahead, shared by processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from data.served import cached, data, opened, quick, shard_server
from shard_server import ShardServer
from tar_files import everything, shard

from bifocal.data import sources
from bifocal.data.plan import Plan

__all__ = ["data", "quick", "shard_server"]


def size_of(path: Path) -> int:
    """Return the bytes of a file, none if it was evicted a moment ago."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.property
def test_a_small_cache_is_never_exceeded_and_the_data_stay_the_same(tmp_path, shard_server, cache):
    paths = [
        shard(tmp_path / "data" / f"{n}.tar", *(f"{n}-{m}" for m in range(9))) for n in range(16)
    ]
    shard_server.files = {f"d/{path.name}": path.read_bytes() for path in paths}
    local = opened(str(tmp_path / "data"))
    size = paths[0].stat().st_size
    source = opened(shard_server.url + "/d/{0..15}.tar", cache_gb=9.5 * size / 1e9)
    plan = Plan(source, 0, window=20)
    most = 0

    def read(position: int) -> bool:
        nonlocal most
        index = plan.index(position)
        same = source.read(index) == local.read(index)
        most = max(most, sum(map(size_of, cached(cache))))
        return same

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(read, range(200)))
    assert 8 * size < most <= 9.5 * size


@pytest.mark.behaviour
def test_the_next_shards_are_fetched_ahead(shard_server, tmp_path, cache):
    paths = [shard(tmp_path / "data" / f"{n}.tar", f"{n}-0", f"{n}-1") for n in range(6)]
    shard_server.files = {f"d/{path.name}": path.read_bytes() for path in paths}
    source = opened(shard_server.url + "/d/{0..5}.tar")
    for path in cached(cache):
        path.unlink()
    shard_server.requests.clear()
    plan = Plan(source, 0, window=4)
    walked = Plan(opened(str(tmp_path / "data")), 0, window=4)
    order = list(dict.fromkeys(source.place(walked.index(n)) for n in range(8)))
    plan.index(0)
    deadline = time.monotonic() + 10
    while len(cached(cache)) < 4 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    fetched = [name.removeprefix("GET d/") for name in shard_server.requests if "GET" in name]
    assert sorted(fetched) == sorted(order)
    assert set(fetched[:2]) == set(order[:2])
    for n in range(4):
        source.read(plan.index(n))
    assert shard_server.count("GET") == 4


# The package without its public face, which takes seconds to import.
CHILD = """
import json, sys, types
from pathlib import Path
package = types.ModuleType("bifocal")
package.__path__ = [sys.argv[3]]
sys.modules["bifocal"] = package
from bifocal.data.captions import CaptionReader
from bifocal.data.patience import Patience
from bifocal.data.remote import Fetched
from bifocal.data.shards import ShardSource
from bifocal.data.store import Store
store = Store(sys.argv[1], Patience())
found = store.find(sys.argv[1])
archives = Fetched(found, store, Path(sys.argv[2]), 10**9)
source = ShardSource([shard.path for shard in found], CaptionReader(), archives)
keys = [source.read(n).key for n in range(len(source))]
print(json.dumps([source.identity, keys]))
"""


def child(url: str, folder: Path) -> subprocess.Popen[str]:
    package = str(Path(sources.__file__).parents[1])
    command = [sys.executable, "-c", CHILD, url, str(folder), package]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.property
def test_processes_share_a_cache_and_a_killed_one_leaves_nothing_that_is_read(
    shard_server: ShardServer, data, tmp_path
):
    local = opened(str(tmp_path / "data"))
    expected = [local.identity, [key for key, _, _ in everything(local)]]
    folder, url = tmp_path / "shared", shard_server.url + "/d/{0..3}.tar"
    shard_server.slow = threading.Event()
    with child(url, folder) as killed:
        deadline = time.monotonic() + 60
        half = {len(content) // 2 for content in shard_server.files.values()}
        while not {d.stat().st_size for d in (folder / "shards").glob("*.tmp.*")} >= half:
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
    left = {path.name.partition(".")[2].partition(".")[0] for path in (folder / "shards").iterdir()}
    assert left == {"", "part", "tmp"}
    shard_server.slow.set()
    shard_server.requests.clear()
    with child(url, folder) as one, child(url, folder) as other:
        told = [json.loads(process.communicate(timeout=60)[0]) for process in (one, other)]
    assert told == [expected, expected]
    fetched = [name for name in shard_server.requests if "GET" in name and ".tar" in name]
    assert sorted(fetched) == [f"GET d/{n}.tar" for n in range(4)]
    names = {path.suffix for path in (folder / "shards").iterdir()}
    assert names == {".tar", ""}


@pytest.mark.behaviour
def test_a_long_first_fetch_is_announced(shard_server, data, caplog, monkeypatch):
    from bifocal.data import catalog

    monkeypatch.setattr(catalog, "TOLD", 10_000)
    url = shard_server.url + "/d/{0..3}.tar"
    with caplog.at_level(logging.WARNING):
        opened(url)
        assert "4 shards, 0.0 GB, are fetched" in caplog.text
        caplog.clear()
        opened(url)
    assert not caplog.records


@pytest.mark.behaviour
def test_a_cache_that_a_window_does_not_fit_is_told_of(shard_server, data, caplog):
    size = sum(map(len, shard_server.files.values()))
    with caplog.at_level(logging.WARNING):
        opened(shard_server.url + "/d/{0..3}.tar", cache_gb=size / 1e9)
        assert not caplog.records
        opened(shard_server.url + "/d/{0..3}.tar", cache_gb=0.9 * size / 1e9)
    assert "data.cache_gb is" in caplog.text
    assert len(caplog.records) == 1
