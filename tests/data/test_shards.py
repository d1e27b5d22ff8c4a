"""Tar shards as samples: captions in every form, labels, and what a message says."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bifocal.data.captions import CaptionReader
from bifocal.data.decode import decode
from bifocal.data.loader import Loader, Samples
from bifocal.data.plan import Plan
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source
from bifocal.errors import BifocalError, ConfigError, DataError
from bifocal.inputs.preprocess import Augment, random_crop
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World


def picture(level: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(file, kind)
    return file.getvalue()


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def pairs(*numbers: int) -> dict[str, bytes]:
    files = {}
    for n in numbers:
        files |= {f"{n:03d}.png": picture(n), f"{n:03d}.txt": f"number {n}".encode()}
    return files


@pytest.mark.behaviour
def test_every_form_of_caption_is_read(tmp_path):
    files = {
        "a.jpg": picture(1, "JPEG"),
        "a.txt": b"  one caption \n",
        "b.webp": picture(2, "WEBP"),
        "b.json": json.dumps({"captions": ["one", "", "two "], "caption": "no"}).encode(),
        "b.txt": b"the list wins",
        "c.png": picture(3),
        "c.json": json.dumps({"caption": "from JSON", "width": 8}).encode(),
        "d.PNG": picture(4),
        "d.cls": b"1\n",
        "sub/a.jpeg": picture(5, "JPEG"),
        "sub/a.txt": "ünïcode".encode(),
        "sub/a.seg.png": b"another picture of the same sample is not read",
    }
    (tmp_path / "classes.json").write_text('["red thing", "orange thing"]')
    shard(tmp_path / "x.tar", files)
    source = open_source("*.tar", Reading(root=tmp_path, templates=("a {}", "the {}")))
    found = {s.key: (s.captions, s.label) for s in map(source.read, range(len(source)))}
    assert found == {
        "a": (("one caption",), None),
        "b": (("one", "two"), None),
        "c": (("from JSON",), None),
        "d": (("an orange thing", "the orange thing"), 1),
        "sub/a": (("ünïcode",), None),
    }
    for index in range(len(source)):
        sample = source.read(index)
        assert source.captions(index) == sample.captions
        assert isinstance(sample.image, bytes)
        assert abs(int(decode(sample.image)[0, 4, 4]) - index - 1) <= 2


@pytest.mark.behaviour
def test_labels_without_templates_have_no_captions(tmp_path):
    shard(tmp_path / "x.tar", {"d.png": picture(4), "d.cls": b"1"})
    source = ShardSource([tmp_path / "x.tar"], CaptionReader(("cat", "dog")))
    sample = source.read(0)
    assert (sample.captions, sample.label) == ((), 1)
    assert source.class_names == ("cat", "dog")


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("companion", "reason"),
    [
        ({"a.txt": b" \n"}, "no caption"),
        ({"a.json": b"{"}, "damaged JSON"),
        ({"a.json": b"[" * 100_000}, "damaged JSON"),
        ({"a.json": b"\xff\xfe"}, "damaged JSON"),
        ({"a.json": b'["not a table"]'}, "no caption"),
        ({"a.json": b'{"captions": [1, null]}'}, "no caption"),
        ({"a.cls": b"dog"}, "label is not a number"),
        ({"a.cls": b"2"}, "label without a class name"),
        ({"a.cls": b"-1"}, "label without a class name"),
    ],
)
def test_a_damaged_companion_is_a_reason_to_skip(tmp_path, companion, reason):
    shard(tmp_path / "x.tar", {"a.png": picture(1)} | companion)
    source = ShardSource([tmp_path / "x.tar"], CaptionReader(("cat", "dog"), ("a {}",)))
    with pytest.raises(DataError, match=f"^{reason}$"):
        source.read(0)
    with pytest.raises(DataError, match=f"^{reason}$"):
        source.captions(0)


@pytest.mark.behaviour
def test_shards_without_captions_say_what_a_sample_is(tmp_path):
    shard(tmp_path / "x.tar", {"a.png": picture(1), "b.txt": b"no picture", "README": b""})
    with pytest.raises(DataError, match=r"no pair in 1 shard.*x\.tar.*NAME\.jpg.*NAME\.txt"):
        open_source(str(tmp_path / "x.tar"), Reading())
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"no pair in 1 shard.*empty\.tar"):
        open_source("empty.tar", Reading(root=tmp_path))


@pytest.mark.behaviour
def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing matches '.*none-\*\.tar'.*data\.root"):
        open_source("none-*.tar", Reading(root=tmp_path))
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(BifocalError, match=r"folder\.tar"):
        open_source("*.tar", Reading(root=tmp_path))


@pytest.mark.behaviour
@pytest.mark.parametrize("content", ['{"a": 1}', "[1, 2]", "[", None])
def test_bad_class_names_are_refused(tmp_path, content):
    shard(tmp_path / "x.tar", {"d.png": picture(4), "d.cls": b"1"})
    if content is not None:
        (tmp_path / "names.json").write_text(content)
    with pytest.raises(ConfigError, match=r"names\.json"):
        open_source("x.tar", Reading(root=tmp_path, classes="names.json"))


@pytest.mark.property
def test_shards_are_read_in_order_and_places_are_their_names(tmp_path):
    shard(tmp_path / "b.tar", pairs(5, 6))
    shard(tmp_path / "a.tar", pairs(1, 2, 3))
    shard(tmp_path / "c.tar", {"only.txt": b"x"})
    shard(tmp_path / "d.tar", pairs(7))
    source = open_source(str(tmp_path), Reading())
    assert source.shard_sizes == (3, 2, 0, 1)
    assert [source.read(n).key for n in range(6)] == ["001", "002", "003", "005", "006", "007"]
    assert [source.place(n) for n in range(6)] == ["a.tar"] * 3 + ["b.tar"] * 2 + ["d.tar"]


@pytest.mark.property
def test_identity_follows_the_content_and_not_the_folder(tmp_path):
    def identity(folder: str, *numbers: int, **reading: object) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        shard(tmp_path / folder / "x.tar", pairs(*numbers))
        return open_source("x.tar", Reading(root=tmp_path / folder, **reading)).identity

    (tmp_path / "names.json").write_text('["cat", "dog"]')
    same = identity("one", 1, 2, 3)
    assert identity("two", 1, 2, 3) == same
    others = [
        identity("one", 1, 2, 4),
        identity("one", 1, 2),
        identity("one", 2, 1, 3),
        identity("one", 1, 2, 3, templates=("a {}",), classes=str(tmp_path / "names.json")),
    ]
    assert len({same, *others}) == 5


@pytest.mark.property
@given(blocks=st.sets(st.integers(0, 70), min_size=1, max_size=4), junk=st.integers(0, 255))
def test_damage_costs_the_samples_it_touches_and_no_others(tmp_path, blocks, junk):
    path = shard(tmp_path / "x.tar", pairs(*range(20)))
    with tarfile.open(path) as archive:
        reach = {m.name: range(m.offset, m.offset_data + -(-m.size // 512) * 512) for m in archive}
    hurt = {name[:3] for name, span in reach.items() if any(b * 512 in span for b in blocks)}
    raw = bytearray(path.read_bytes())
    for block in blocks:
        raw[block * 512 : block * 512 + 512] = bytes([junk]) * 512
    path.write_bytes(raw)
    source = ShardSource([path], CaptionReader())
    readable = {}
    for index in range(len(source)):
        try:
            sample = source.read(index)
            assert isinstance(sample.image, bytes)
            readable[sample.key] = (sample.captions, int(decode(sample.image)[0, 0, 0]))
        except DataError:
            continue
    for n in range(20):
        if f"{n:03d}" not in hurt:
            assert readable[f"{n:03d}"] == ((f"number {n}",), n)


@pytest.mark.property
def test_training_goes_on_over_damage(tmp_path):
    path = shard(tmp_path / "x.tar", pairs(*range(20)) | {"007.png": b"no picture"})
    source = ShardSource([path], CaptionReader())

    def crop(image, draw):
        return random_crop(image, 8, Augment(), draw)

    samples = Samples(source, Plan(source, 0), Tokenizer([], 20), crop)
    batches = iter(Loader(samples, 10, world=World()))
    seen = next(batches).keys + next(batches).keys
    batches.close()
    assert set(seen) == {f"{n:03d}" for n in range(20) if n != 7}
    assert samples.skips.counts["x.tar", "not a picture of a known format"] >= 1


@pytest.mark.behaviour
def test_real_photographs_are_read(photographs):
    source = open_source("flickr8k/val-*.tar", Reading(root=photographs))
    sample = source.read(len(source) - 1)
    assert len(sample.captions) == 5
    assert isinstance(sample.image, bytes)
    image = decode(sample.image).numpy().transpose(1, 2, 0)
    by_pillow = np.asarray(Image.open(io.BytesIO(sample.image)).convert("RGB"))
    assert np.abs(image.astype(int) - by_pillow).max() <= 2
