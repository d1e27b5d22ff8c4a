"""`bifocal train` on a mixture and on shards in a store."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from shard_server import shard_server

from bifocal.data.scenes import SceneSource

__all__ = ["shard_server"]


def pack(path: Path, source: SceneSource, indices: range) -> Path:
    """Write built-in scenes to a shard."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for n in indices:
            sample = source.read(n)
            file = io.BytesIO()
            Image.fromarray(np.asarray(sample.image)).save(file, "PNG")
            parts = {"png": file.getvalue(), "txt": sample.captions[0].encode()}
            for suffix, content in parts.items():
                header = tarfile.TarInfo(f"{n:05d}.{suffix}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture
def packed(tmp_path) -> Path:
    """A folder of three shards of twenty scenes."""
    source = SceneSource(60, 0, 32, split="train")
    for n in range(3):
        pack(tmp_path / "shards" / f"{n:02d}.tar", source, range(20 * n, 20 * n + 20))
    return tmp_path / "shards"


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "model" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    found, expected = weights(one), weights(other)
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in found
    )


@pytest.mark.property
def test_a_run_on_a_server_equals_the_one_on_the_disk_bit_for_bit(
    bifocal, recipe, packed, shard_server, tmp_path
):
    shard_server.files = {f"d/{path.name}": path.read_bytes() for path in packed.glob("*.tar")}
    shard_server.faults = [500, "cut"]
    url = shard_server.url + "/d/{00..02}.tar"
    quick = ("evaluate.zero_shot={}", "data.val=", f"data.cache_dir={tmp_path / 'cache'}")
    for name, train in (("disk", f"{packed}/*.tar"), ("web", url)):
        said = bifocal("train", recipe, f"out={tmp_path / name}", f"data.train={train}", *quick)
        assert said.status == 0, said.text
    assert same(tmp_path / "disk", tmp_path / "web")
    assert len(list((tmp_path / "cache" / "shards").glob("*.tar"))) == 3
    said = bifocal("train", recipe, f"out={tmp_path / 'none'}", f"data.train={url}x.tar", *quick)
    assert said.status == 1
    assert "nothing is at" in said.err


@pytest.mark.property
def test_a_run_on_a_mixture_resumes_where_it_stopped(bifocal, recipe, packed, tmp_path):
    mixture = f'[{{path="{packed}/*.tar", weight=3}}, {{path="scenes:val:30", weight=1}}]'
    quick = (f"data.train={mixture}", "data.val=", "train.checkpoint_every=2")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = bifocal("train", recipe, f"out={whole}", *quick)
    assert said.status == 0, said.text
    assert json.loads((whole / "results.json").read_text())["pairs"] == 64
    said = bifocal("train", recipe, f"out={parts}", *quick)
    assert said.status == 0, said.text
    # What a run leaves that was stopped at step 2.
    for left in ("model", "results.json", "checkpoints/step-00000004", "checkpoints/step-4"):
        path = parts / left
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        path.unlink(missing_ok=True)
    said = bifocal("train", recipe, f"out={parts}", *quick)
    assert "at step 2 of 4" in said.text
    assert same(whole, parts)
    other = mixture.replace("weight=3", "weight=2")
    said = bifocal("train", recipe, f"out={parts}", quick[1], f"data.train={other}")
    assert said.status == 1
    assert "data.train was" in said.text


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('[{path="scenes"}]', r"weight.* is missing"),
        ('[{path="scenes", weight=0}]', r"greater than 0"),
        ('[{path="scenes", wieght=1}]', r"did you mean 'weight'"),
        ("[]", r"mixture of nothing"),
        (
            '[{path="scenes", weight=1}, {path="none.tar", weight=1}]',
            r"nothing matches 'none\.tar'",
        ),
        ("nowhere://a/b.tar", r"Protocol not known: nowhere"),
    ],
)
def test_a_mistake_in_the_data_is_one_message(bifocal, recipe, tmp_path, value, message):
    said = bifocal("train", recipe, f"out={tmp_path / 'run'}", f"data.train={value}")
    assert said.status == 1
    assert said.out == ""
    assert re.search(message, " ".join(said.err.split())), said.err
