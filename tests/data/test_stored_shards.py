"""Shards in a store: found there, the same data as on the disk, named where they are not."""

from __future__ import annotations

import fsspec
import pytest
from data.served import cached, data, opened, quick, shard_server
from tar_files import everything, shard, shards

from bifocal.data.catalog import MANIFEST
from bifocal.data.plan import Plan
from bifocal.data.sample import Source
from bifocal.data.shelf import BESIDE
from bifocal.data.sources import Reading, open_source
from bifocal.errors import ConfigError, DataError

__all__ = ["data", "quick", "shard_server"]


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
    assert shard_server.count("GET d/2.tar") == shard_server.count("GET") - 2 == 1
    assert other.identity != first.identity
    assert [key for key, _, _ in everything(other)][5:7] == ["x", "y"]


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
def test_a_manifest_that_came_with_the_shards_saves_fetching_them(
    tmp_path, shard_server, data, cache
):
    local = opened(str(tmp_path / "data"))  # which writes the manifest
    name = f"d/{BESIDE}/{MANIFEST}"
    shard_server.files[name] = (tmp_path / "data" / BESIDE / MANIFEST).read_bytes()
    url = shard_server.url + "/d/{0..3}.tar"
    for _ in range(2):
        shard_server.requests.clear()
        source = opened(url)
        assert sorted(one for one in shard_server.requests if "GET" in one) == [
            f"GET {name}",
            "GET d/classes.json",
        ]
    assert source.identity == local.identity
    assert source.shard_sizes == local.shard_sizes
    assert everything(source) == everything(local)
    assert len(cached(cache)) == shard_server.count("GET d/") - 2 == 4


@pytest.mark.behaviour
def test_a_manifest_of_other_shards_is_not_believed(tmp_path, shard_server, data, cache):
    opened(str(tmp_path / "data"))
    name = f"d/{BESIDE}/{MANIFEST}"
    manifest = (tmp_path / "data" / BESIDE / MANIFEST).read_bytes()
    shard_server.files[name] = manifest
    other = shard(data[0], *(f"{n}" for n in range(40))).read_bytes()
    assert len(other) != len(shard_server.files["d/0.tar"])
    same = shard(data[1], "x-0", "1-1", "1-2").read_bytes()
    assert len(same) == len(shard_server.files["d/1.tar"])
    shard_server.files |= {"d/0.tar": other, "d/1.tar": same}
    url = shard_server.url + "/d/{0..3}.tar"
    source = opened(url)
    assert [path.stat().st_size for path in cached(cache)] == [len(other)]
    assert source.read(0).key == "0"
    for index in (40, 41, 42):  # of the size that the manifest tells, and not of its names
        with pytest.raises(DataError, match=r"^shard is not the one that its manifest tells of$"):
            source.read(index)
    assert source.read(43).key == "2-0"
    shard_server.files[name] = manifest[:-1]
    assert opened(url).read(40).key == "x-0"
    del shard_server.files[name]
    assert everything(opened(url))[40:] == everything(opened(str(tmp_path / "data")))[40:]
