"""Shards in a store that breaks: what passes costs time, what stays is named once."""

from __future__ import annotations

import threading
from pathlib import Path

import fsspec
import pytest
from data.served import cached, data, opened, quick, shard_server
from tar_files import everything, shard

from bifocal.data.loader import Loader, Samples
from bifocal.data.patience import Patience
from bifocal.data.plan import Plan
from bifocal.data.store import Store
from bifocal.errors import DataError, TrainingError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World

__all__ = ["data", "quick", "shard_server"]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "faults", [[500, 500], [503, "cut"], ["cut", 429], ["stall"], ["corrupt"]], ids=str
)
def test_faults_that_pass_cost_nothing_but_time(tmp_path, shard_server, data, faults, cache):
    shard_server.sums = "corrupt" in faults
    shard_server.faults = list(faults)
    source = opened(shard_server.url + "/d/{0..3}.tar")
    assert everything(source) == everything(opened(str(tmp_path / "data")))
    assert shard_server.count("GET d/") == 4 + len(faults) + 2  # class names and a manifest
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
