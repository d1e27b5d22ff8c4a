"""Recipes of several runs, each going on from the model of the one before."""

from __future__ import annotations

import json

import pytest

from bifocal import pretrained
from bifocal.cli.train import train
from bifocal.errors import ConfigError
from bifocal.train.stages import foresee, load_stages

RECIPE = """
[model]
embed_dim = 16
vision = { image_size = 32, patch_size = 8, width = 16, layers = 1, heads = 2 }
text = { context_length = 16, vocab_size = 600, width = 16, layers = 1, heads = 2 }
[data]
train = "scenes:train:32"
batch_size = 16
threads = 0
[optim]
lr = 1e-3
warmup_steps = 1
[train]
steps = 3
device = "cpu"
"""
STAGES = """
[[stage]]
train.steps = 4

[[stage]]
model.image_size = 48
optim.lr = 1e-4
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + STAGES)
    return path


@pytest.mark.behaviour
def test_a_small_size_and_then_the_full_one(recipe, tmp_path, capsys):
    out = tmp_path / "run"
    train(recipe, [f"out={out}", "data.batch_size=8"])
    said = capsys.readouterr().out
    assert said.index("stage 1 of 2") < said.index("stage 2 of 2")
    small, large = out / "stage-1", out
    assert json.loads((small / "results.json").read_text())["steps"] == 4
    assert json.loads((large / "results.json").read_text())["steps"] == 3
    settings = json.loads((large / "checkpoints/step-00000003/run.json").read_text())
    assert settings["init"] == str(small)
    assert settings["optim"]["lr"] == 1e-4
    assert settings["data"]["batch_size"] == 8
    first, last = pretrained.load(small), pretrained.load(large)
    assert (first.preprocess.image_size, last.preprocess.image_size) == (32, 48)
    assert first.tokenizer.merges == last.tokenizer.merges
    # Once more, both are complete.
    train(recipe, [f"out={out}", "data.batch_size=8"])
    assert capsys.readouterr().out.count("resumed") == 2


@pytest.mark.behaviour
def test_a_recipe_without_stages_is_one_run(recipe, tmp_path):
    recipe.write_text(RECIPE)
    (stage,) = load_stages(recipe, ["optim.lr=5e-4"])
    assert stage.config().out == "runs/recipe"
    assert stage.config().optim.lr == 5e-4


@pytest.mark.behaviour
def test_a_mistake_in_a_later_stage_is_found_before_the_first_begins(recipe):
    recipe.write_text(RECIPE + STAGES.replace("optim.lr", "optim.lrr"))
    with pytest.raises(ConfigError, match=r"stage 2: unknown setting 'optim\.lrr'"):
        load_stages(recipe, [])
    for setting, fault in (
        ('loss.form = "sigmoid"', r"stage 2: loss\.form=sigmoid needs a bias"),
        ('train.keep_best = "val/loss"', r"stage 2: train\.keep_best='val/loss', but the run"),
    ):
        recipe.write_text(RECIPE + STAGES + setting)
        with pytest.raises(ConfigError, match=fault):
            load_stages(recipe, [])
    recipe.write_text("stage = 3\n" + RECIPE)
    with pytest.raises(ConfigError, match=r"each under a line \[\[stage\]\]"):
        load_stages(recipe, [])


@pytest.mark.behaviour
def test_stages_may_begin_from_a_model(recipe, tmp_path):
    recipe.write_text(RECIPE)
    train(recipe, [f"out={tmp_path / 'first'}"])
    recipe.write_text("[data]" + RECIPE.split("[data]")[1] + STAGES)
    for overrides in ([f"init={tmp_path / 'first'}"], [f"init={tmp_path / 'none'}"]):
        first, second = load_stages(recipe, [*overrides, f"out={tmp_path / 'run'}"])
        assert f"init={first.table['init']}" == overrides[0]
        assert second.table["init"] == str(tmp_path / "run/stage-1")
    recipe.write_text(recipe.read_text() + "model.patch_size = 5\n")
    with pytest.raises(ConfigError, match=r"stage 2, model: unknown setting 'patch_size'"):
        load_stages(recipe, [f"init={tmp_path / 'first'}"])


@pytest.mark.behaviour
def test_stages_are_foreseen_as_they_turn_out(recipe, tmp_path):
    later = """
[[stage]]
optim.lr = 1e-5
normalize.std = [0.3, 0.3, 0.3]

[[stage]]
train.lock = "image"
"""
    recipe.write_text(recipe.read_text().replace("steps = 3", "steps = 1") + later)
    stages = load_stages(recipe, [f"out={tmp_path / 'run'}"])
    foreseen = foresee(stages)
    train(recipe, [f"out={tmp_path / 'run'}"])
    for stage, expected in zip(stages, foreseen, strict=True):
        found = stage.config()
        smaller = {"vocab_size": found.model.text.vocab_size}
        text = expected.model.text.model_copy(update=smaller)
        model = expected.model.model_copy(update={"text": text})
        assert found == expected.model_copy(update={"model": model})
    assert [one.model.vision.image_size for one in foreseen] == [32, 48, 32, 32]
    assert foreseen[3].train.lock == "image"
    assert foreseen[3].normalize == foreseen[2].normalize != foreseen[1].normalize
