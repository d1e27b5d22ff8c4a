"""Settings from TOML and overrides: what is laid over what, and what a mistake is told."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bifocal.errors import ConfigError, did_you_mean
from bifocal.model import zoo
from bifocal.model.config import ModifiedResNetConfig, VisionTransformerConfig
from bifocal.settings import Settings, build, load, merge, parse_override, read_toml
from bifocal.train.config import RunConfig
from bifocal.train.recipe import load_run, resolve_run
from bifocal.world import pick_device

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


class Inner(Settings):
    rate: float = 0.5
    names: tuple[str, ...] = ()


class Outer(Settings):
    count: int
    inner: Inner = Inner()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", {"a": 1}),
        ("a.b=0.5", {"a": {"b": 0.5}}),
        ("a.b.c=true", {"a": {"b": {"c": True}}}),
        ('a=["x", "y"]', {"a": ["x", "y"]}),
        ("a='1'", {"a": "1"}),
        ("a=shards/*.tar", {"a": "shards/*.tar"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": ""}),
        ("a=1e-3", {"a": 1e-3}),
        ("a = 2", {"a": 2}),
        ("a=scenes:train:100", {"a": "scenes:train:100"}),
    ],
)
def test_overrides_are_toml_or_else_text(text, value):
    assert parse_override(text) == value


@pytest.mark.behaviour
@pytest.mark.parametrize("text", ["a", "=1", "a.=1", ".a=1", ""])
def test_an_override_without_a_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match=r"write it as section\.key=value"):
        parse_override(text)


tables = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.integers() | inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.property
@given(base=tables, over=tables)
def test_merging_keeps_what_lies_above(base, over):
    def flat(table, prefix=""):
        found = {}
        for key, value in table.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
            found |= {} if isinstance(value, dict) else {f"{prefix}{key}": value}
        return found

    before = json.dumps([base, over])
    merged = flat(merge(base, over))
    above = flat(over)
    assert above.items() <= merged.items()
    for key, value in flat(base).items():
        hidden = key in above or any(
            k.startswith(f"{key}.") or key.startswith(f"{k}.") for k in above
        )
        assert hidden or merged.get(key, value) == value
    assert json.dumps([base, over]) == before


@pytest.mark.behaviour
def test_mistakes_are_told_one_a_line():
    with pytest.raises(ConfigError) as refused:
        build(Outer, {"inner": {"rat": 1, "names": 3}, "cuont": 2}, "here")
    said = str(refused.value)
    assert said.startswith("here: ")
    assert "unknown setting 'inner.rat' — did you mean 'rate'?" in said
    assert "'inner.names' is 3" in said
    assert "unknown setting 'cuont' — did you mean 'count'?" in said
    assert "'count' is missing" in said
    assert len(said.splitlines()) == 4
    with pytest.raises(ConfigError, match=r"unknown setting 'zzz' \(known: count, inner\)"):
        build(Outer, {"count": 1, "zzz": 2})


@pytest.mark.behaviour
def test_settings_are_frozen_and_layered(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("count = 2\n[inner]\nrate = 3\n")
    found = load(Outer, path, ["inner.rate=4", "inner.names=['x']"], base={"count": 1})
    assert (found.count, found.inner.rate, found.inner.names) == (2, 4.0, ("x",))
    with pytest.raises(ValidationError):
        found.count = 3
    assert build(Outer, json.loads(found.to_json())) == found


@pytest.mark.behaviour
def test_toml_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no recipe at .*none\.toml"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_toml(tmp_path)
    for content in (b"a = [", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
            read_toml(tmp_path / "bad.toml")


@pytest.mark.golden
def test_the_papers_hyperparameters_follow_the_architecture():
    # Origin: paper tables 18 and 19, as DESIGN section 4 gives them.
    def run(preset: str) -> RunConfig:
        table = {"model": {"preset": preset}, "data": {"train": "x"}, "train": {"steps": 1}}
        return resolve_run(table, "r.toml")

    vit, resnet = run("ViT-L/14").optim, run("RN50x64").optim
    assert (vit.lr, vit.beta1, vit.beta2, vit.eps) == (4e-4, 0.9, 0.98, 1e-6)
    assert (resnet.lr, resnet.beta1, resnet.beta2, resnet.eps) == (3.6e-4, 0.9, 0.999, 1e-8)
    assert vit.weight_decay == resnet.weight_decay == 0.2
    assert vit.warmup_steps == 2000
    assert run("ViT-B/32").augment.min_area == 1
    assert not run("ViT-B/32").augment.horizontal_flip


@pytest.mark.behaviour
def test_a_preset_can_be_changed_in_part():
    table = {
        "model": {"preset": "ViT-B/32", "image_size": 96, "text": {"layers": 3}},
        "data": {"train": "x"},
        "train": {"steps": 1},
    }
    model = resolve_run(table, "r.toml").model
    assert isinstance(model.vision, VisionTransformerConfig)
    assert model.vision.image_size == 96
    assert model.text.layers == 3
    assert model.text.width == zoo.config("ViT-B/32").text.width
    with pytest.raises(ConfigError, match="96 is not a multiple of patch_size 14"):
        resolve_run(merge(table, {"model": {"preset": "ViT-L/14"}}), "r.toml")


@pytest.mark.behaviour
def test_towers_are_told_apart_by_their_settings():
    vit = {"patch_size": 8, "image_size": 16, "width": 16, "layers": 1, "heads": 1}
    resnet = {"image_size": 32, "width": 4, "layers": [1, 1, 1, 1], "heads": 2}
    for vision, kind in ((vit, VisionTransformerConfig), (resnet, ModifiedResNetConfig)):
        table = {
            "model": {"embed_dim": 8, "vision": vision},
            "data": {"train": "x"},
            "train": {"steps": 1},
        }
        config = resolve_run(table, "r.toml")
        assert isinstance(config.model.vision, kind)
        # What is saved beside a checkpoint says the same again.
        assert build(RunConfig, json.loads(config.to_json())) == config


@pytest.mark.behaviour
def test_data_start_at_the_root_of_the_environment_or_the_recipe(monkeypatch):
    table = {
        "model": {"preset": "RN-nano"},
        "data": {"train": "x"},
        "train": {"steps": 1},
    }
    assert resolve_run(table, "recipes/mine.toml").out == "runs/mine"
    assert resolve_run(table, "r.toml").data_root == Path()
    monkeypatch.setenv("BIFOCAL_DATA", "/somewhere")
    assert resolve_run(table, "r.toml").data_root == Path("/somewhere")
    assert resolve_run(merge(table, {"data": {"root": "/else"}}), "r").data_root == Path("/else")


@pytest.mark.behaviour
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_valid_and_name_no_machine(path):
    config = load_run(path, [])
    assert isinstance(config, RunConfig)
    for value in tomllib.loads(path.read_text())["data"].values():
        assert not str(value).startswith(("/", "~", "../")), value


@pytest.mark.behaviour
def test_devices_that_are_not_there_are_refused(monkeypatch):
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto") is not None
    with pytest.raises(ConfigError, match="no device is named 'gpu'"):
        pick_device("gpu")
    with pytest.raises(ConfigError, match="this machine has no 'xpu'"):
        pick_device("xpu")
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: cuda)
    assert pick_device("auto") == pick_device("cuda") == cuda
    assert pick_device("cuda:1").index == 1
    with pytest.raises(ConfigError, match="this machine has no 'xpu'"):
        pick_device("xpu")


@pytest.mark.behaviour
def test_only_near_names_are_suggested():
    assert did_you_mean("widht", ["width", "height"]) == " — did you mean 'width'?"
    assert did_you_mean("quux", ["width", "height"]) == ""
