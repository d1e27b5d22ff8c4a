"""Runs of several real processes: their data, weights and checkpoints."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from real_worlds import bifocal, finish, kill_all, run_world, torchrun
from rich.console import Console
from safetensors.torch import load_file

from bifocal import load
from bifocal.cli.train import train_run
from bifocal.train.log import read_metrics
from bifocal.train.recipe import load_run

STEPS = 30
RECIPE = f"""
[model]
embed_dim = 32
vision = {{ image_size = 32, patch_size = 8, width = 32, layers = 1, heads = 2 }}
text = {{ context_length = 16, vocab_size = 600, width = 32, layers = 1, heads = 2 }}
[data]
train = "scenes:train:48"
val = "scenes:val:20"
batch_size = 16
threads = 1
[optim]
lr = 1e-3
warmup_steps = 2
[train]
steps = {STEPS}
checkpoint_every = 3
log_every = 1
device = "cpu"
"""


def train(recipe: Path, out: Path, processes: int, *overrides: str) -> str:
    """Train in so many processes, which must end well, and return what they said."""
    arguments = ("train", recipe, f"out={out}", *overrides)
    return "".join(run_world(processes, out.with_name(f"{out.name}-said"), bifocal, *arguments))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


@pytest.mark.property
def test_two_processes_train_what_one_does_and_survive_a_kill(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    one, two, broken = (tmp_path / name for name in ("one", "two", "broken"))
    train(recipe, one, 1)
    said = train(recipe, two, 2)
    assert said.count("report ") == 1, "only one process speaks"

    after = f"step-{random.Random(0).choice([3, 6, 9]):08d}"
    with torchrun(2, "train", recipe, f"out={broken}") as job:
        deadline = time.monotonic() + 100
        while not any(folder.name >= after for folder in broken.glob("checkpoints/step-*")):
            assert job.poll() is None, job.communicate()[0]
            assert time.monotonic() < deadline, "it hangs"
            time.sleep(0.01)
        kill_all(job)
    assert not (broken / "results.json").exists(), "the kill came too late to mean anything"
    assert "resumed" in train(recipe, broken, 2)

    for name in ("model/model.safetensors", f"checkpoints/step-{STEPS:08d}/optimizer.safetensors"):
        assert (broken / name).read_bytes() == (two / name).read_bytes()
    alone = weights(one)
    for name, tensor in weights(two).items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-3, atol=1e-4)


@pytest.mark.behaviour
def test_a_batch_that_does_not_divide_is_refused_by_all(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("batch_size = 16", "batch_size = 15"))
    with pytest.raises(AssertionError, match=r"process [01] ended with 1") as told:
        train(recipe, tmp_path / "run", 2)
    refusal = "data.batch_size 15 does not divide among 2 processes"
    assert refusal in " ".join(str(told.value).split())


@pytest.mark.property
def test_a_run_that_is_spread_over_processes(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + "shard = true\n")
    spread, plain, again = (tmp_path / name for name in ("spread", "plain", "again"))
    train(recipe, spread, 2)
    for copy in (plain, again):
        name = f"step-{STEPS - 3:08d}"
        shutil.copytree(spread / "checkpoints" / name, copy / "checkpoints" / name)
    with torchrun(2, "train", recipe, f"out={again}") as job:
        assert "resumed" in finish(job)
    for name in ("model/model.safetensors", f"checkpoints/step-{STEPS:08d}/optimizer.safetensors"):
        assert (again / name).read_bytes() == (spread / name).read_bytes()
    # One process holds everything: from the same files on, and from the beginning.
    for out in (plain, tmp_path / "alone"):
        config = load_run(recipe, [f"out={out}", "train.shard=false"])
        trained = train_run(config, Console(quiet=True))
        for name, tensor in trained.run.model.state_dict().items():
            torch.testing.assert_close(weights(spread)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.property
@pytest.mark.parametrize("lock", ["image", "text"])
def test_beside_a_locked_tower_the_other_is_spread(tmp_path, lock):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace(f"steps = {STEPS}", "steps = 4"))
    train_run(load_run(recipe, [f"out={tmp_path / 'first'}"]), Console(quiet=True))
    options = [f"init={tmp_path / 'first'}", f"train.lock={lock}"]
    train(recipe, tmp_path / "spread", 2, *options, "train.shard=true", "train.chunk_size=4")
    train_run(load_run(recipe, [f"out={tmp_path / 'alone'}", *options]), Console(quiet=True))
    before, alone, spread = (weights(tmp_path / name) for name in ("first", "alone", "spread"))
    moved = {name for name in before if not torch.equal(before[name], spread[name])}
    locked = {name for name in before if name.startswith("visual.") == (lock == "image")}
    assert moved
    assert not moved & locked - {"logit_scale"}
    for name, tensor in spread.items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-3, atol=1e-4)


@pytest.mark.behaviour
def test_a_spread_run_in_16_bits_learns_and_is_saved_whole(tmp_path):
    recipe = tmp_path / "recipe.toml"
    more = ("shard = true", 'precision = "bfloat16"', "gradient_checkpointing = true", "")
    recipe.write_text(RECIPE + "\n".join(more))
    options = ["optim.statistics=float16", "optim.average_decay=0.8", "optim.max_grad_norm=1"]
    options += [f"optim.{tower}_weights=bfloat16" for tower in ("image", "text")]
    options += ["train.chunk_size=4"]
    train(recipe, tmp_path / "run", 2, *options)
    train_run(load_run(recipe, [f"out={tmp_path / 'alone'}", *options]), Console(quiet=True))
    found, expected = (
        [row["loss"] for row in read_metrics(tmp_path / name) if row["kind"] == "train"]
        for name in ("run", "alone")
    )
    assert found == pytest.approx(expected, rel=0.02)
    sizes = {name: tensor.shape for name, tensor in weights(tmp_path / "run").items()}
    model = load(tmp_path / "run").model
    assert sizes == {name: tensor.shape for name, tensor in model.state_dict().items()}
