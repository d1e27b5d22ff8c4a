"""What bifocal cannot follow is refused by its name, and damaged files by theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bifocal.errors import CheckpointError
from bifocal.interop import huggingface, open_clip
from bifocal.interop.load import load
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

pytestmark = pytest.mark.behaviour

Make = Callable[..., Pretrained]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision_cfg", {"timm_model_name": "convnext_base"}, "timm_model_name = 'convnext_base'"),
        ("vision_cfg", {"mlp_ratio": 4.9231}, "mlp_ratio = 4.9231"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "hf_model_name"),
        ("text_cfg", {"pool_type": "last"}, "pool_type = 'last'"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "tokenizer_kwargs"),
        ("text_cfg", {"no_causal_mask": True}, "no_causal_mask = True"),
        ("model_cfg", {"multimodal_cfg": {}}, "multimodal_cfg"),
        ("model_cfg", {"new_option": 1}, "new_option = 1"),
        ("preprocess_cfg", {"resize_mode": "squash"}, "resize_mode 'squash'"),
        ("preprocess_cfg", {"interpolation": "bilinear"}, "interpolation 'bilinear'"),
    ],
)
def test_what_open_clip_has_and_bifocal_not_is_named(
    part: str, change: dict, message: str, tiny: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    open_clip.write(random_pretrained(tiny), tmp_path)
    path = tmp_path / open_clip.CONFIG
    table = json.loads(path.read_text())
    parts = {**table, **table["model_cfg"]}
    parts[part].update(change)
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"text_config_dict": {"hidden_act": "gelu"}}, "hidden_act"),
        ("config.json", {"text_config_dict": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ("config.json", {"vision_config_dict": {"intermediate_size": 7}}, "intermediate_size"),
        ("config.json", {"model_type": "siglip"}, "siglip"),
        ("preprocessor_config.json", {"resample": 2}, "resample = 2"),
        ("preprocessor_config.json", {"size": {"height": 16, "width": 16}}, "size = None"),
        ("preprocessor_config.json", {"do_center_crop": False}, "do_center_crop = False"),
    ],
)
def test_what_transformers_has_and_bifocal_not_is_named(
    file: str,
    change: dict,
    message: str,
    tiny_vit: CLIPConfig,
    random_pretrained: Make,
    tmp_path: Path,
) -> None:
    huggingface.write(random_pretrained(tiny_vit), tmp_path)
    table = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**table, **change}))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_a_tokenizer_that_is_only_named_is_not_guessed(
    tiny: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    open_clip.write(random_pretrained(tiny), tmp_path)
    for name in ("tokenizer.json", "merges.txt", "vocab.json"):
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=r"put its tokenizer\.json there"):
        load(tmp_path)


NO_TABLE = ["", "[]", "null", "[" * 100_000, "\x00"]
OPEN_CLIP_TABLES = [
    {"model_cfg": 3},
    {"model_cfg": {"embed_dim": 8}},
    {"model_cfg": {"embed_dim": 8, "vision_cfg": [], "text_cfg": {}}},
    {"model_cfg": {"embed_dim": -8, "vision_cfg": {}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 8, "vision_cfg": {"head_width": 0}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 8, "vision_cfg": {"width": "wide"}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 8, "vision_cfg": {"layers": 10**9}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}, "init_logit_scale": -9e9}},
]
HUGGINGFACE_TABLES = [
    {"model_type": "clip", "vision_config": [1]},
    {"model_type": "clip", "text_config": {"hidden_size": "wide"}},
    {"model_type": "clip", "vision_config": {"num_hidden_layers": 10**9}},
    {"model_type": "clip", "vision_config": {"patch_size": [16, 8]}},
    {"model_type": "clip", "logit_scale_init_value": -9e9},
    {"model_type": ["clip"]},
]


@pytest.mark.parametrize("table", [*NO_TABLE, *OPEN_CLIP_TABLES])
def test_a_damaged_configuration_of_open_clip_is_refused(
    table: object, tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    open_clip.write(random_pretrained(tiny_vit), tmp_path)
    text = table if isinstance(table, str) else json.dumps(table)
    (tmp_path / open_clip.CONFIG).write_text(text)
    with pytest.raises(CheckpointError):
        load(tmp_path)


@pytest.mark.parametrize("table", [*NO_TABLE, *HUGGINGFACE_TABLES])
def test_a_damaged_configuration_of_transformers_is_refused(
    table: object, tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    huggingface.write(random_pretrained(tiny_vit), tmp_path)
    text = table if isinstance(table, str) else json.dumps(table)
    (tmp_path / huggingface.CONFIG).write_text(text)
    with pytest.raises(CheckpointError):
        load(tmp_path)


def test_a_tokenizer_numbered_otherwise_is_refused(
    tiny_vit: CLIPConfig, random_pretrained: Make, tmp_path: Path
) -> None:
    huggingface.write(random_pretrained(tiny_vit), tmp_path)
    path = tmp_path / "tokenizer.json"
    table = json.loads(path.read_text())
    vocab = table["model"]["vocab"]
    vocab["ab"], vocab["ac"] = vocab["ac"], vocab["ab"]
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"not OpenAI's kind .*'ab'"):
        load(tmp_path)


def test_names_that_mean_nothing_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"did you mean 'ViT-B/32'"):
        load("VIT-B/32")
    with pytest.raises(CheckpointError, match="no file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no model in"):
        load(tmp_path)
