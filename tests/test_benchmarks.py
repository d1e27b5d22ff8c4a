"""Every benchmark still runs: each by its command, on sizes at which its figures mean nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NANO = ("--model", "ViT-nano/8")
HERE = {
    "loss": ("--sizes", 64),
    "optimizer": (*NANO, "--turns", 1),
    "index": ("--shards", 20, "--samples", 10),
    "linear_probe": ("--examples", 300, "--dim", 8, "--classes", 4, "--strengths", 1),
}
BESIDE_A_PEER = {
    "tar_reading": ("webdataset", "--samples", 40, "--rounds", 1),
    "tokenizer": ("open_clip", "--repeats", 1),
    "towers": ("open_clip", "--images", 2, "--prompts", 4, "--rounds", 1),
    "train_step": ("open_clip", "--batch-size", 2, "--steps", 1),
    "zero_shot_classifier": (
        *("open_clip", "--classes", 2, "--templates", 2, "--rounds", 1, "--no-whole"),
    ),
    "input_path": ("open_clip", "--pairs", 16, "--rounds", 1),
    "gpu": (
        *("open_clip", "--device", "cpu", "--models", "ViT-B/32", "--batch-size", 2),
        *("--sizes", 64, "--precisions", "float32"),
    ),
}
"""With the package that it needs first: those of the peers' environment."""


def figures(name: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.behaviour
@pytest.mark.parametrize("name", HERE)
def test_benchmarks_that_need_no_peer_run(name):
    assert any(map(str.isdigit, figures(name, *HERE[name])))


@pytest.mark.behaviour
@pytest.mark.parametrize("name", BESIDE_A_PEER)
def test_benchmarks_beside_a_peer_run(name):
    package, *arguments = BESIDE_A_PEER[name]
    if importlib.util.find_spec(str(package)) is None:
        pytest.skip(f"{package} is not installed beside bifocal: see tests/parity/conftest.py")
    assert any(map(str.isdigit, figures(name, *arguments)))


@pytest.mark.behaviour
def test_the_rate_of_training_is_taken_beside_a_peer():
    if importlib.util.find_spec("open_clip_train") is None:
        pytest.skip("open_clip's trainer is not installed beside bifocal")
    if not os.environ.get("BIFOCAL_DATA"):
        pytest.skip("it trains on Flickr8k: set BIFOCAL_DATA")
    said = figures("train_rate", "--steps", 10, "--rounds", 1, "--peers", sys.executable)
    assert "ratio" in said


@pytest.mark.behaviour
def test_none_is_left_out():
    helpers = {"__init__", "__main__", "timing", "picture_shards"}
    known = {*HERE, *BESIDE_A_PEER, "train_rate"}
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers == known
