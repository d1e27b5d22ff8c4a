"""Checkpoints: whole or not at all, checked when read, and the last good one always there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bifocal
from bifocal.errors import CheckpointError
from bifocal.train import checkpoint
from bifocal.train.prepare import prepare
from bifocal.world import World


def folders(out: str) -> list[str]:
    return sorted(path.name for path in (Path(out) / "checkpoints").iterdir())


@pytest.mark.behaviour
def test_a_checkpoint_is_a_model_and_holds_all_state(configure, train):
    config = configure("train.steps=4")
    run = train(config)
    folder = Path(config.out) / "checkpoints/step-00000004"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "run.json",
        "state.json",
        "tokenizer.json",
    }
    state = json.loads((folder / "state.json").read_text())
    assert (state["step"], state["position"], state["data"]) == (4, 64, run.source.identity)
    moments = load_file(folder / "optimizer.safetensors")
    parameters = dict(run.model.named_parameters())
    assert moments.keys() == {
        f"{kind}/{name}" for name in parameters for kind in ("exp_avg", "exp_avg_sq", "step")
    }
    loaded = bifocal.load(folder)
    with torch.no_grad():
        expected = run.model.eval().encode_text(run.tokenizer(["a red circle"]))
    assert torch.equal(loaded.encode_text(["a red circle"]), expected)
    # A run's folder means its newest model.
    assert torch.equal(bifocal.load(config.out).encode_text(["a red circle"]), expected)


@pytest.mark.behaviour
@pytest.mark.parametrize("keep", [1, 3])
def test_only_the_last_are_kept(configure, train, keep):
    config = configure(f"train.keep_last={keep}")
    train(config)
    assert folders(config.out) == [f"step-{n:08d}" for n in (4, 6, 8)[-keep:]]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "tokenizer.json", "state.json"]
)
def test_a_flipped_bit_sends_back_to_the_checkpoint_before(configure, train, name):
    whole = configure("train.steps=6", "train.keep_last=1", out="whole")
    train(whole)
    broken = configure("train.steps=6", "train.keep_last=3")
    train(broken)
    newest = Path(broken.out) / "checkpoints/step-00000006"
    raw = bytearray((newest / name).read_bytes())
    raw[len(raw) // 2] ^= 4
    (newest / name).write_bytes(raw)
    heard: list[str] = []
    run = train(broken, say=heard.append)
    assert "step-00000006 is damaged" in heard[0]
    assert "is passed over" in heard[0]
    assert "resumed" in heard[1]
    assert "step 4 of 6" in heard[1]
    assert run.step == 6
    # The damaged one is written anew, so that the next start finds it whole.
    heard.clear()
    assert checkpoint.latest(Path(broken.out), heard.append) == newest
    assert not heard
    good = Path(whole.out) / "checkpoints/step-00000006/model.safetensors"
    assert (newest / "model.safetensors").read_bytes() == good.read_bytes()


@pytest.mark.behaviour
def test_damaged_checkpoints_do_not_push_out_new_ones(configure, train):
    config = configure("train.steps=8", "train.keep_last=3", "train.checkpoint_every=2")
    train(config)
    for step in (6, 8):
        (Path(config.out) / f"checkpoints/step-0000000{step}/state.json").write_text("{}")
    run = prepare(config.model_copy(deep=True), World(), print)
    assert run.step == 4
    run.config.train.__dict__["keep_last"] = 1
    run.step = 5
    checkpoint.save(run, Path(config.out))
    assert folders(config.out) == ["step-00000005"]
    found = checkpoint.latest(Path(config.out), print)
    assert found is not None
    assert found.name == "step-00000005"


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("whole", "changed"), [('"position": 64', '"position": 65'), ('"step": 4', '"step": 5')]
)
def test_a_changed_place_in_the_data_is_damage_too(configure, train, whole, changed):
    config = configure("train.steps=4")
    train(config)
    state = Path(config.out) / "checkpoints/step-00000004/state.json"
    text = state.read_text()
    assert whole in text
    for damaged in (text.replace(whole, changed), "[]", "{}", '{"sha256": 3}', text[:-20]):
        state.write_text(damaged)
        found = checkpoint.latest(Path(config.out), lambda message: None)
        assert found is not None
        assert found.name == "step-00000002"


@pytest.mark.behaviour
def test_a_missing_file_is_damage_too(configure, train):
    config = configure("train.steps=4", "train.keep_last=2")
    train(config)
    (Path(config.out) / "checkpoints/step-00000004/optimizer.safetensors").unlink()
    heard: list[str] = []
    found = checkpoint.latest(Path(config.out), heard.append)
    assert found is not None
    assert found.name == "step-00000002"
    assert "damaged" in heard[0]


@pytest.mark.behaviour
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_the_checkpoint_before(configure, train, monkeypatch, call):
    config = configure("train.steps=4")
    run = prepare(config, World(), print)
    out = Path(config.out)
    first = checkpoint.save(run, out)
    run.step = 1

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync"), "rename": (Path, "rename")}[call], full)
        with pytest.raises(CheckpointError, match=r"step 1: .*No space left.*step-0+ is intact"):
            checkpoint.save(run, out)
    assert folders(config.out) == [first.name]
    assert checkpoint.latest(out, pytest.fail) == first
    bifocal.load(first)
    # With room again, the same call goes through.
    assert checkpoint.save(run, out).name == "step-00000001"


@pytest.mark.behaviour
def test_a_process_whose_files_may_not_grow_stops_with_one_message(configure, train, tmp_path):
    # RLIMIT_FSIZE makes write() fail with EFBIG, as a full disk makes it fail with ENOSPC.
    config = configure("train.steps=2", "train.checkpoint_every=1", "train.keep_last=3")
    train(config)
    out = Path(config.out)
    (out / "checkpoints/step-00000002").rename(tmp_path / "aside")
    before = {path: path.read_bytes() for path in out.rglob("step-00000001/*")}
    recipe = tmp_path / "recipe.toml"
    table = json.loads(config.to_json())
    recipe.write_text("".join(_toml(table)))
    program = "from bifocal.cli.main import run; run()"
    done = subprocess.run(
        [
            *("bash", "-c", 'ulimit -f 64; exec "$@"', "-"),
            *(sys.executable, "-c", program, "train", str(recipe)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stderr.split())
    assert said.startswith("error: cannot write the checkpoint of step 2")
    assert "step-00000001 is intact" in said
    assert "Traceback" not in done.stdout + done.stderr
    assert folders(config.out) == ["step-00000001"]
    assert {path: path.read_bytes() for path in before} == before


def _toml(table: dict, prefix: str = "") -> list[str]:
    """Write settings as TOML; what is None has no place in it."""
    lines = [
        f"{key} = {json.dumps(value)}\n"
        for key, value in table.items()
        if value is not None and not isinstance(value, dict)
    ]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{key}]\n", *_toml(value, f"{prefix}{key}.")]
    return lines


@pytest.mark.behaviour
def test_what_a_crash_left_half_written_is_ignored_and_replaced(configure, train):
    config = configure("train.steps=4")
    train(configure("train.steps=4"))
    out = Path(config.out)
    half = out / "checkpoints/.unfinished-step-00000006"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    found = checkpoint.latest(out, pytest.fail)
    assert found is not None
    assert found.name == "step-00000004"
    run = prepare(config, World(), print)
    run.step = 6
    checkpoint.save(run, out)
    assert not half.exists()
    assert checkpoint.latest(out, pytest.fail) == out / "checkpoints/step-00000006"
