"""Shards are the same bytes however they came to be, and read back as what went in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from picture_files import encode, scene
from PIL import Image
from tar_files import write

from bifocal.curate import packing as packing_module
from bifocal.curate.crew import Opening
from bifocal.curate.encoding import Encoding
from bifocal.curate.packing import Packing, pack
from bifocal.curate.record import DONE, PROGRESS, Record
from bifocal.data import catalog, indexing
from bifocal.data.decode import decode
from bifocal.data.loader import read_image
from bifocal.data.sources import Reading, open_source
from bifocal.errors import ConfigError, DataError

SCENES = Opening(("scenes:train:23",), Reading(image_size=16))


def contents(out: Path) -> dict[str, bytes]:
    """Every shard of a folder, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.tar"))}


def shard_of(folder: Path) -> Opening:
    """Pictures of several kinds with one caption, several, or a label; two of them damaged."""
    picture = Image.fromarray(scene(60, 40))
    files = {
        "a.jpg": encode(picture, "JPEG", quality=90),
        "a.txt": b"one caption",
        "b.png": encode(picture, "PNG"),
        "b.json": json.dumps({"captions": ["zwei", "\ufeffdrei ∑"]}).encode(),
        "c.webp": encode(picture.resize((20, 10)), "WEBP"),
        "c.cls": b"1",
        "d.bmp": encode(picture, "BMP"),
        "d.txt": b"a bitmap",
        "d.cls": b"0",
        "e.jpg": b"\xff\xd8 no picture",
        "e.txt": b"damaged",
        "f.jpg": encode(picture, "JPEG", quality=90)[:500],
        "f.txt": b"cut off",
        "g.jpg": encode(picture, "JPEG", quality=90),
        "g.txt": b"one caption",
        "h.jpg": encode(picture, "JPEG", quality=90),
        "h.txt": b"another caption",
        "i.jpg": b"without a text",
    }
    folder.mkdir()
    (folder / "classes.json").write_text('["cat", "dog"]')
    return Opening((str(write(folder / "0.tar", files)),), Reading())


@pytest.mark.property
def test_what_is_packed_reads_back(tmp_path):
    opening = shard_of(tmp_path / "in")
    record = pack(opening, tmp_path / "out", Packing(pairs=2))
    before = open_source(opening.specs[0], Reading())
    after = open_source(str(tmp_path / "out"), Reading())
    kept = [before.read(n) for n in (0, 1, 2, 3, 6, 7)]
    found = [after.read(n) for n in range(len(after))]
    assert [(s.image, s.captions, s.label) for s in found] == [
        (s.image, s.captions, s.label) for s in kept
    ]
    assert after.class_names == ("cat", "dog")
    assert after.shard_sizes == (2, 2, 2)
    assert dict(record.left_out) == {
        ("0.tar", "not a picture of a known format"): 1,
        ("0.tar", "truncated or damaged picture"): 1,
        ("0.tar", "picture without caption"): 1,
    }
    table = json.loads((tmp_path / "out" / DONE).read_bytes())
    assert table["complete"]
    assert table["pairs"] == 6
    assert sum(row["count"] for row in table["left_out"]) == 3
    assert not (tmp_path / "out" / PROGRESS).exists()


@pytest.mark.property
def test_interrupted_anywhere_the_bytes_are_the_same(tmp_path):
    """Duplicates of what earlier shards hold, and damage before and behind the stop, included."""
    whole = Packing(pairs=1, dedup="pictures")
    few = shard_of(tmp_path / "in")
    assert pack(few, tmp_path / "whole", whole).duplicates == 2
    for stop in range(1, 9):
        out = tmp_path / f"stopped-{stop}"

        def told(read: int, kept: int, total: int, stop: int = stop) -> None:
            if read == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(few, out, whole, told=told)
        assert not list(out.glob(".*.tmp"))
        record = pack(few, out, whole)
        assert contents(out) == contents(tmp_path / "whole")
        assert (out / DONE).read_bytes() == (tmp_path / "whole" / DONE).read_bytes()
        assert record.complete


@pytest.mark.property
def test_a_shard_beyond_the_record_is_written_again(tmp_path, monkeypatch):
    pack(SCENES, tmp_path / "whole", Packing(pairs=5))
    out, save = tmp_path / "out", Record.save

    def fail(record: Record, folder: Path) -> None:
        if len(record.shards) == 2:
            raise KeyboardInterrupt
        save(record, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            pack(SCENES, out, Packing(pairs=5))
    assert (out / "00001.tar").exists()
    pack(SCENES, out, Packing(pairs=5))
    assert contents(out) == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from bifocal.curate import crew
from bifocal.curate.crew import Opening
from bifocal.curate.packing import Packing, pack
from bifocal.data.sources import Reading

crew.FEW, crew.SPAN = 0, 4

def told(read, kept, total):
    if read == 39:
        print("killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    opening = Opening(("scenes:train:60",), Reading(image_size=16))
    pack(opening, Path(sys.argv[1]), Packing(pairs=10), workers=2, told=told)
"""


@pytest.mark.property
def test_killed_it_goes_on_and_leaves_no_process(tmp_path):
    """A real SIGKILL in the fourth shard; its workers hold the output open until they end."""
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(program), str(tmp_path / "out")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout == "killed\n"
    out = tmp_path / "out"
    assert json.loads((out / PROGRESS).read_bytes())["pairs"] == 30
    assert list(out.glob(".*.tmp"))
    opening = Opening(("scenes:train:60",), Reading(image_size=16))
    pack(opening, out, Packing(pairs=10))
    pack(opening, tmp_path / "whole", Packing(pairs=10))
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.glob(".*.tmp"))


@pytest.mark.behaviour
def test_opening_packed_shards_reads_no_header(tmp_path, monkeypatch):
    pack(SCENES, tmp_path, Packing(pairs=5))

    def enter_all(missing: list[Path], *_: object) -> dict[Path, object]:
        assert not missing, "the manifest lacks a shard"
        return {}

    monkeypatch.setattr(catalog, "enter_all", enter_all)
    monkeypatch.setattr(indexing, "build", None)
    found = open_source(str(tmp_path), Reading())
    assert found.shard_sizes == (5, 5, 5, 5, 3)
    assert len(found.read(22).captions) == 4
    with tarfile.open(tmp_path / "00000.tar") as archive:
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in archive} == {(0, 0, "", 0o644)}


@pytest.mark.behaviour
def test_order_is_that_of_the_seed(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None)):
        pack(SCENES, tmp_path / name, Packing(shuffle=seed))
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    keys = []
    for name in "acd":
        with tarfile.open(tmp_path / name / "00000.tar") as archive:
            keys.append(sorted(archive.getnames()))
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.behaviour
def test_duplicates(tmp_path):
    opening = shard_of(tmp_path / "in")
    counts = {}
    for dedup in ("none", "pairs", "pictures"):
        record = pack(opening, tmp_path / dedup, Packing(dedup=dedup))
        found = open_source(str(tmp_path / dedup), Reading())
        assert len(found) == record.pairs
        counts[dedup] = (record.pairs, record.duplicates)
    assert counts == {"none": (6, 0), "pairs": (5, 1), "pictures": (4, 2)}


@pytest.mark.behaviour
def test_pictures_shrink_and_never_grow(tmp_path):
    opening = shard_of(tmp_path / "in")
    pack(opening, tmp_path / "out", Packing(Encoding(size=20)))
    found = open_source(str(tmp_path / "out"), Reading())
    shapes = [tuple(read_image(found.read(n)).shape[1:]) for n in range(len(found))]
    assert shapes == [(20, 30), (20, 30), (10, 20), (20, 30), (20, 30), (20, 30)]
    shrunk = decode(found.read(1).image).numpy().transpose(1, 2, 0).astype(int)
    wanted = Image.fromarray(scene(60, 40)).resize((30, 20), Image.Resampling.BICUBIC)
    assert np.abs(shrunk - np.asarray(wanted)).max() <= 2
    assert found.read(2).image == open_source(opening.specs[0], Reading()).read(2).image


@pytest.mark.behaviour
@pytest.mark.parametrize(("kind", "start"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_pictures_take_another_format(tmp_path, kind, start):
    opening = shard_of(tmp_path / "in")
    pack(opening, tmp_path / "out", Packing(Encoding(format=kind)))
    pack(opening, tmp_path / "small", Packing(Encoding(format=kind, quality=20)))
    found = open_source(str(tmp_path / "out"), Reading())
    small = open_source(str(tmp_path / "small"), Reading())
    original = open_source(opening.specs[0], Reading())
    for n in range(len(found)):
        assert found.read(n).image.startswith(start)
        assert len(small.read(n).image) < len(found.read(n).image)
    same = 0 if kind == "jpeg" else 2
    assert found.read(same).image == original.read(same).image


@pytest.mark.behaviour
def test_mistakes_say_what_to_do(tmp_path):
    out = tmp_path / "out"
    pack(SCENES, out, Packing(pairs=5))
    with pytest.raises(ConfigError, match=r"pairs was 5, is 6.*another folder"):
        pack(SCENES, out, Packing(pairs=6))
    other = Opening(("scenes:train:24",), Reading(image_size=16))
    with pytest.raises(ConfigError, match="the data have changed"):
        pack(other, out, Packing(pairs=5))
    (out / "00001.tar").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"00001.tar has 3 bytes, not .*pack again"):
        pack(SCENES, out, Packing(pairs=5))
    (out / DONE).write_text("{}")
    with pytest.raises(DataError, match="no record of packing"):
        pack(SCENES, out, Packing(pairs=5))
    (out / DONE).unlink()
    with pytest.raises(ConfigError, match="a folder of its own"):
        pack(SCENES, out, Packing(pairs=5))
    with pytest.raises(ConfigError, match="two folders"):
        pack(Opening(("scenes:train:5", "scenes:seen:5"), Reading()), tmp_path / "x", Packing())
    with pytest.raises(ConfigError, match="--format jpeg"):
        Encoding(quality=80)
    with pytest.raises(ConfigError, match="at least 1"):
        Packing(pairs=0)


@pytest.mark.behaviour
def test_two_at_once_do_not_spoil_each_other(tmp_path):
    def told(read: int, kept: int, total: int) -> None:
        if read == 3:
            with pytest.raises(ConfigError, match="another process packs"):
                pack(SCENES, tmp_path, Packing(pairs=5))

    pack(SCENES, tmp_path, Packing(pairs=5), told=told)


@pytest.mark.behaviour
def test_a_full_disk_is_told_and_survived(tmp_path, monkeypatch):
    def full(writer: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packing_module.ShardWriter, "finish", full)
        with pytest.raises(DataError, match="No space left on device; the same command goes on"):
            pack(SCENES, tmp_path / "out", Packing(pairs=5))
    pack(SCENES, tmp_path / "out", Packing(pairs=5))
    pack(SCENES, tmp_path / "whole", Packing(pairs=5))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
