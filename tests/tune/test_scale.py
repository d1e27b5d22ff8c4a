"""A tuned recipe carried to a larger model: each rule, and that the result can be trained."""

from __future__ import annotations

import pytest

from bifocal.cli.tune_files import tower
from bifocal.model import zoo
from bifocal.settings import merge
from bifocal.train.config import RunConfig
from bifocal.train.recipe import load_run, resolve_run
from bifocal.tune.scale import Tuned, scale

BASE = {
    "out": "runs/small",
    "init": "",
    "model": {"activation": "gelu", "text": {"context_length": 40}},
    "data": {"train": "scenes:train:60", "batch_size": 96},
    "optim": {"lr": 1e-3, "warmup_steps": 7, "weight_decay": 0.4, "beta2": 0.95, "beta1": 0.8},
    "train": {"epochs": 1},
}
NANO = {"preset": "RN-nano", "image_size": 96, "text": {"width": 64, "heads": 1}}


def tuned(model, **tables) -> Tuned:
    recipe = merge(merge(BASE, tables), {"model": model})
    config = resolve_run({k: v for k, v in recipe.items() if k != "init"}, "test")
    optim = config.optim
    return Tuned(
        recipe=recipe,
        tower=tower(str(model.get("preset", "")), config.model),
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        warmup_steps=optim.warmup_steps,
        batch_size=config.data.batch_size,
    )


def carried(tmp_path, small: Tuned, name: str) -> tuple[RunConfig, str]:
    path = tmp_path / "large.toml"
    path.write_text(scale(small, tower(name, zoo.config(name)), "runs/large").toml())
    return load_run(path, []), path.read_text()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "lr"),
    # The paper's rates (tables 19 and 20) over RN50's 5e-4, times the tuned 1e-3.
    [
        ("RN101", 1e-3),
        ("RN50x16", 8e-4),
        ("RN50x64", 7.2e-4),
        ("ViT-B/16", 1e-3),
        ("ViT-L/14", 8e-4),
        ("ViT-L/14@336px", 4e-5),
    ],
)
def test_the_learning_rate_keeps_the_papers_ratio(tmp_path, name, lr):
    for small in (tuned({"preset": "RN50"}), tuned(NANO)):
        config, text = carried(tmp_path, small, name)
        assert config.optim.lr == pytest.approx(lr)
        assert "# Rule: the tuned 0.001, times the paper's rate" in text
    assert "RN50's, for an unpublished one" in " ".join(text.replace("# ", "").split())


@pytest.mark.behaviour
@pytest.mark.parametrize("name", zoo.names())
def test_sizes_are_the_models_own_and_the_rest_is_carried(tmp_path, name):
    config, _ = carried(tmp_path, tuned(NANO), name)
    own = zoo.config(name)
    assert config.model.vision == own.vision
    assert config.model.embed_dim == own.embed_dim
    assert (config.model.text.width, config.model.text.heads) == (own.text.width, own.text.heads)
    assert config.model.text.context_length == 40  # the captions', not the model's
    assert config.model.activation == "gelu"
    assert config.out == "runs/large"
    optim = config.optim
    assert (optim.warmup_steps, optim.weight_decay, optim.beta1) == (7, 0.4, 0.8)
    assert config.data.batch_size == 96
    assert config.train.epochs == 1


@pytest.mark.golden
def test_the_other_kind_of_tower_has_the_papers_adam(tmp_path):
    # Table 18: beta2 and eps of Vision Transformers and of ResNets.
    resnet, patches = tuned(NANO), tuned({"preset": "ViT-B/32"})
    same, _ = carried(tmp_path, resnet, "RN50x4")
    assert (same.optim.beta2, same.optim.eps) == (0.95, 1e-8)
    other, text = carried(tmp_path, resnet, "ViT-B/32")
    assert (other.optim.beta2, other.optim.eps) == (0.98, 1e-6)
    assert "# Rule: the paper's for a Vision Transformer" in text
    back, _ = carried(tmp_path, patches, "RN50")
    assert (back.optim.beta2, back.optim.eps) == (0.999, 1e-8)


@pytest.mark.behaviour
def test_what_cannot_carry_is_left_behind(tmp_path):
    small = tuned({"preset": "ViT-nano/8"}, train={"patch_dropout": 0.5, "steps": 9})
    small.recipe["train"]["lock"] = "image"  # type: ignore[index]
    small.recipe["init"] = "runs/before"  # type: ignore[index]
    config, _ = carried(tmp_path, small, "RN50")
    assert (config.train.patch_dropout, config.train.lock, config.init) == (0, None, "")
    config, _ = carried(tmp_path, small, "ViT-B/32")
    assert (config.train.patch_dropout, config.train.steps) == (0.5, 9)
    config, text = carried(tmp_path, small, "ViT-L/14@336px")
    assert (config.train.epochs, config.train.steps) == (1, None)
    assert "set init to the folder of that run" in " ".join(text.replace("# ", "").split())


@pytest.mark.behaviour
def test_a_data_set_may_have_a_dot_in_its_name(tmp_path):
    sets = {"zero_shot": {"v1.5": {"data": "scenes:seen:5"}}}
    config, _ = carried(tmp_path, tuned(NANO, evaluate=sets), "RN50")
    assert list(config.evaluate.zero_shot) == ["v1.5"]
