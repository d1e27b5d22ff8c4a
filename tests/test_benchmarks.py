"""Every benchmark still runs: each by its command, on sizes at which its figures mean nothing."""

from __future__ import annotations

import importlib.util
import json
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
}
BESIDE_A_PEER = {
    "linear_probe": (
        *("sklearn", "--examples", 300, "--dim", 8, "--classes", 4, "--strengths", 1),
    ),
    "tar_reading": ("webdataset", "--samples", 40, "--rounds", 1),
    "tokenizer": ("open_clip", "--repeats", 1),
    "towers": ("open_clip", "--images", 2, "--prompts", 4, "--rounds", 1),
    "train_step": ("open_clip", "--batch-size", 2, "--steps", 1),
    "zero_shot_classifier": (
        *("open_clip", "--classes", 2, "--templates", 2, "--rounds", 1, "--no-whole"),
    ),
}
"""With the package that it needs first: those of the peers' environment."""
ON_A_DEVICE = (
    *("--device", "cpu", "--models", "ViT-nano/8", "--batch-size", 2),
    *("--sizes", 64, "--precisions", "float32"),
)
ON_PHOTOGRAPHS = {
    "input_path": ("--pairs", 16, "--rounds", 1),
    "train_rate": ("--steps", 10, "--rounds", 1, "--peers", sys.executable),
}
"""Those beside open_clip that read data which do not come with bifocal."""


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
    need(str(package))
    assert any(map(str.isdigit, figures(name, *arguments)))


@pytest.mark.behaviour
@pytest.mark.parametrize("name", ON_PHOTOGRAPHS)
def test_benchmarks_on_photographs_run(name, photographs, monkeypatch):
    need("open_clip")
    monkeypatch.setenv("BIFOCAL_DATA", str(photographs))
    assert any(map(str.isdigit, figures(name, *ON_PHOTOGRAPHS[name])))


@pytest.mark.behaviour
def test_the_benchmark_of_a_device_runs(vocabulary, tmp_path):
    path = tmp_path / "figures.json"
    figures("gpu", *ON_A_DEVICE, "--vocabulary", vocabulary, "--json", path)
    assert json.loads(path.read_text()).keys() >= {"loss", "towers", "steps", "optimizer"}


def need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed beside bifocal: see tests/parity/conftest.py")


@pytest.mark.behaviour
def test_none_is_left_out():
    helpers = {"__init__", "__main__", "timing", "picture_shards"}
    known = {*HERE, *BESIDE_A_PEER, *ON_PHOTOGRAPHS, "gpu"}
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers == known
