"""Shards in a store: the same data as on the disk, through every fault that passes."""

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
from functools import partial
from pathlib import Path

import fsspec
import pytest
from shard_server import ShardServer, shard_server
from tar_files import everything, shard, shards

from bifocal.data import sources
from bifocal.data.loader import Loader, Samples
from bifocal.data.patience import Patience
from bifocal.data.plan import Plan
from bifocal.data.sample import Source
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source
from bifocal.data.store import Store
from bifocal.errors import ConfigError, DataError, TrainingError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World

__all__ = ["shard_server"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Make pauses short, and what a stalled store is given."""
    hasty = partial(Patience, attempts=3, pause=0.01)
    monkeypatch.setattr(sources, "Patience", lambda stall: hasty(stall=min(stall, 0.5)))


@pytest.fixture
def data(tmp_path, shard_server):
    """Four shards on the disk and on the server."""
    paths = shards(tmp_path / "data", 4)
    shard_server.files = {f"d/{path.name}": path.read_bytes() for path in paths}
    return paths


def opened(url: str, **reading: object) -> ShardSource:
    source = open_source(url, Reading(**reading))
    assert isinstance(source, ShardSource)
    return source


def cached(cache: Path) -> list[Path]:
    return sorted((cache / "bifocal" / "shards").glob("*.tar"))


@pytest.mark.property
@pytest.mark.parametrize("tags", [True, False])
def test_order_identity_and_content_are_those_of_local_files(tmp_path, shard_server, data, tags):
    shard_server.tags = tags
    local = opened(str(tmp_path / "data"))
    shard_server.lists = True
    memory = fsspec.filesystem("memory")
    for path in data:
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    specs = ("/d/{0..3}.tar", "/d/{3,1,0,2}.tar", "/d/*.tar", "/d/", "/d", "/d/{0..1}.tar?key=1")
    urls = [shard_server.url + spec for spec in specs[:-1]]
    urls += ["memory://bucket/*.tar", "memory://bucket/{0..3}.tar", "memory://bucket"]
    for url in urls:
        source = opened(url)
        assert source.identity == local.identity, url
        assert source.shard_sizes == local.shard_sizes
        assert everything(source) == everything(local)
        assert [source.place(n) for n in range(len(source))] == [
            local.place(n) for n in range(len(local))
        ]
        plans = [Plan(one, 3, window=5) for one in (source, local)]
        positions = range(3 * len(local))
        assert len({tuple(map(plan.index, positions)) for plan in plans}) == 1
    memory.rm("/bucket", recursive=True)
    some = opened(shard_server.url + specs[-1])
    assert some.identity == opened(str(tmp_path / "data" / "{0..1}.tar")).identity


@pytest.mark.behaviour
def test_a_second_opening_downloads_nothing(shard_server, data, cache):
    url = shard_server.url + "/d/{0..3}.tar"
    first = opened(url)
    assert shard_server.count("GET d/0.tar") == 1
    for path in cached(cache):
        path.unlink()
    shard_server.requests.clear()
    again = opened(url)
    assert (again.identity, again.shard_sizes) == (first.identity, first.shard_sizes)
    heads = [f"HEAD d/{n}.tar" for n in range(4)]
    assert sorted(shard_server.requests) == ["GET d/classes.json", *heads]
    assert again.read(0).key == "0-0"
    assert shard_server.count("GET d/0.tar") == 1
    assert shard_server.count("GET") == 2
    shard_server.files["d/2.tar"] = shard(data[2], "x", "y").read_bytes()
    shard_server.requests.clear()
    other = opened(url)
    assert shard_server.count("GET d/2.tar") == shard_server.count("GET") - 1 == 1
    assert other.identity != first.identity
    assert [key for key, _, _ in everything(other)][5:7] == ["x", "y"]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "faults", [[500, 500], [503, "cut"], ["cut", 429], ["stall"], ["corrupt"]], ids=str
)
def test_faults_that_pass_cost_nothing_but_time(tmp_path, shard_server, data, faults, cache):
    shard_server.sums = "corrupt" in faults
    shard_server.faults = list(faults)
    source = opened(shard_server.url + "/d/{0..3}.tar")
    assert everything(source) == everything(opened(str(tmp_path / "data")))
    assert shard_server.count("GET d/") == 4 + len(faults) + 1
    names = {path.suffix for path in (cache / "bifocal" / "shards").iterdir()}
    assert names == {".tar", ""}


@pytest.mark.behaviour
def test_a_server_that_answers_no_question_at_first_is_asked_again(shard_server, data):
    shard_server.head_faults, shard_server.faults = [500] * 3, [500] * 3
    assert len(opened(shard_server.url + "/d/{0..3}.tar")) == 14
    assert not shard_server.head_faults + shard_server.faults


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("fault", "told"),
    [("stall", "Timeout|nothing moved"), ("cut", "content length"), (500, "500"), (403, "403")],
)
def test_a_store_that_does_not_deliver_is_named_once(shard_server, data, cache, fault, told):
    shard_server.faults = [fault] * 40
    with pytest.raises(
        DataError, match=rf"does not deliver http.*/d/.\.tar.*({told}).*start again"
    ):
        opened(shard_server.url + "/d/{0..3}.tar?signature=secret")
    assert not cached(cache)


@pytest.mark.behaviour
def test_what_cannot_be_found_or_read_is_named(shard_server, data, tmp_path):
    url = shard_server.url
    with pytest.raises(DataError, match=r"nothing is at http://.*/d/4\.tar: check it"):
        opened(url + "/d/{0..4}.tar")
    with pytest.raises(DataError, match=r"nothing matches http://.*braces"):
        opened(url + "/d/*.tar")
    with pytest.raises(DataError, match=r"nothing matches 'memory://none/\*\.tar'|memory://none"):
        opened("memory://none/*.tar")
    with pytest.raises(ConfigError, match=r"what tells shards apart must stand before a '\?'"):
        opened(url + "/d/0.tar?{a,b}")
    with pytest.raises(ConfigError, match="Protocol not known"):
        opened("nowhere://b/*.tar")
    with pytest.raises(DataError, match=r"does not deliver http://127\.0\.0\.1:9/a\.tar"):
        opened("http://user:secret@127.0.0.1:9/a.tar?secret")
    with pytest.raises(ConfigError, match=r"does not fit a cache of .*data\.cache_gb"):
        opened(url + "/d/{0..3}.tar", cache_gb=1e-6)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        opened(url + "/d/0.tar", cache_dir=str(tmp_path / "file"))
    shard_server.sizes = False
    with pytest.raises(DataError, match="does not tell the size"):
        opened(url + "/d/0.tar")


@pytest.mark.behaviour
def test_class_names_lie_beside_the_shards_or_where_they_are_said_to(shard_server, data, tmp_path):
    url = shard_server.url + "/d/0.tar"
    assert opened(url).class_names == ()
    shard_server.files["d/classes.json"] = b'["cat", "dog"]'
    shard_server.files["other.json"] = b'["a"]'
    (tmp_path / "mine.json").write_text('["b"]')
    assert opened(url).class_names == ("cat", "dog")
    assert opened(url, classes=shard_server.url + "/other.json").class_names == ("a",)
    assert opened(url, classes="mine.json", root=tmp_path).class_names == ("b",)
    with pytest.raises(ConfigError, match=r"no class names at .*/none\.json"):
        opened(url, classes=shard_server.url + "/none.json")


@pytest.mark.behaviour
def test_a_shard_that_changes_or_goes_is_a_reason_and_an_outage_stops_the_run(
    shard_server, data, cache
):
    source = opened(shard_server.url + "/d/{0..3}.tar")
    for path in cached(cache):
        path.unlink()
    shard_server.files["d/0.tar"] = shard(data[0], "x", "z").read_bytes()
    del shard_server.files["d/1.tar"]
    with pytest.raises(DataError, match="shard changed in the store while in use"):
        source.read(0)
    with pytest.raises(DataError, match="shard not in the store any more"):
        source.read(2)
    # Samples of other shards must not stand in for those of a store that is down: the run would
    # go on with other data, and its order would depend on the network.
    shard_server.faults = ["cut"] * 9
    with pytest.raises(TrainingError, match=r"does not deliver .*/d/3\.tar"):
        source.read(9)
    shard_server.faults.clear()
    assert source.read(9).key == "3-0"


@pytest.mark.behaviour
def test_an_outage_ends_the_batches(shard_server, data, cache):
    source = opened(shard_server.url + "/d/{0..3}.tar")
    for path in cached(cache):
        path.unlink()
    shard_server.faults = [500] * 10_000
    samples = Samples(source, Plan(source, 0), Tokenizer([], 20), lambda image, draw: image)
    with pytest.raises(TrainingError, match="does not deliver"):
        next(iter(Loader(samples, 8, world=World(), threads=2)))


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
    assert sorted(name for name in shard_server.requests if "GET" in name) == [
        f"GET d/{n}.tar" for n in range(4)
    ]
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


@pytest.mark.behaviour
def test_local_braces_name_files_that_must_be_there(tmp_path):
    paths = shards(tmp_path, 3)
    source = open_source("{2,0}.tar", Reading(root=tmp_path))
    assert isinstance(source, Source)
    assert [source.place(n) for n in (0, 2)] == ["0.tar", "2.tar"]
    with pytest.raises(DataError, match=r"nothing matches '.*/3\.tar'"):
        open_source("{0..3}.tar", Reading(root=tmp_path))
    paths[0].rename(tmp_path / "{0..3}.tar")
    assert len(open_source("{0..3}.tar", Reading(root=tmp_path))) == 2
    assert len(open_source(f"file://{paths[1]}", Reading())) == 3


@pytest.mark.behaviour
def test_a_driver_that_never_returns_is_left_behind(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/slow/a.tar", b"x" * 100)
    store = Store("memory://slow/a.tar", Patience(stall=0.1, attempts=2, pause=0.01))
    (found,) = store.find("memory://slow/a.tar")
    never, tries = threading.Event(), []

    def stands(url: str, to: str) -> None:
        tries.append(to)
        Path(to).write_bytes(b"x")
        never.wait(10)

    monkeypatch.setattr(store._files, "get_file", stands, raising=False)
    with pytest.raises(TrainingError, match=r"nothing moved for 0\.1 seconds"):
        store.fetch(found, tmp_path / "a.tmp")
    never.set()
    assert len(set(tries)) == 2
    assert not list(tmp_path.glob("a.*"))
    memory.rm("/slow", recursive=True)
