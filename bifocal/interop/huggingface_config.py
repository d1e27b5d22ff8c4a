"""transformers' `CLIPConfig`: the table that describes both towers, read and written.

Its defaults fill what a configuration leaves out, as transformers fills it. What bifocal's towers
do not have is refused by name. Knows the table; knows nothing of files or weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError, ConfigError
from bifocal.model.config import CLIPConfig, VisionTransformerConfig
from bifocal.settings import build

MODEL_TYPE = "clip"
LEGACY_END = 2
"""What older configurations wrote for the end-of-text id, whatever it was."""

Table = Mapping[str, Any]

_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""transformers' defaults, which its configurations leave out."""


def parse_config(table: Table, origin: Path | str) -> CLIPConfig:
    """Return the architecture of a `CLIPConfig` of transformers'.

    Raises:
        CheckpointError: it is another model's, or asks for what bifocal's towers do not have.
    """
    if table.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{origin} describes a model of type '{table.get('model_type')}', expected "
            f"'{MODEL_TYPE}'"
        )
    text = _TEXT | dict(table.get("text_config_dict") or table.get("text_config") or {})
    vision = _VISION | dict(table.get("vision_config_dict") or table.get("vision_config") or {})
    _check_towers(text, vision, origin)
    scale = table.get("logit_scale_init_value", 2.6592)
    translated = {
        "embed_dim": table.get("projection_dim", 512),
        "activation": text["hidden_act"],
        "init_temperature": math.exp(-scale),
        "vision": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": vision["hidden_size"],
            "layers": vision["num_hidden_layers"],
            "heads": vision["num_attention_heads"],
        },
        "text": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "layers": text["num_hidden_layers"],
            "heads": text["num_attention_heads"],
        },
    }
    try:
        return build(CLIPConfig, translated, str(origin))
    except ConfigError as error:
        raise CheckpointError(f"this CLIPConfig cannot be followed: {error}") from None


def format_config(config: CLIPConfig) -> dict[str, Any]:
    """Return an architecture as a `CLIPConfig` of transformers'.

    Raises:
        CheckpointError: the image tower is a ResNet, or the model has a logit bias.
    """
    vision, text = config.vision, config.text_transformer
    if not isinstance(vision, VisionTransformerConfig):
        raise CheckpointError(
            "Hugging Face's CLIPModel has no ResNet tower: convert to openai or open_clip instead"
        )
    if config.init_logit_bias is not None:
        raise CheckpointError("Hugging Face's CLIPModel has no logit bias: convert to open_clip")
    shared = {"hidden_act": config.activation, "layer_norm_eps": 1e-5, "attention_dropout": 0.0}
    return {
        "architectures": ["CLIPModel"],
        "model_type": MODEL_TYPE,
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": math.log(1 / config.init_temperature),
        "dtype": "float32",
        "text_config": {
            "model_type": "clip_text_model",
            **shared,
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "projection_dim": config.embed_dim,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "bos_token_id": text.vocab_size - 2,
            "eos_token_id": text.vocab_size - 1,
            "pad_token_id": text.vocab_size - 1,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **shared,
            "hidden_size": vision.width,
            "intermediate_size": 4 * vision.width,
            "projection_dim": config.embed_dim,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
        },
    }


def _check_towers(text: Table, vision: Table, origin: Path | str) -> None:
    """Refuse what bifocal's towers do not have, by its name."""
    got = {
        "intermediate_size": (text["intermediate_size"], vision["intermediate_size"]),
        "layer_norm_eps": (text["layer_norm_eps"], vision["layer_norm_eps"]),
        "hidden_act": (text["hidden_act"], vision["hidden_act"]),
        "num_channels": vision["num_channels"],
    }
    expected = {
        "intermediate_size": (4 * text["hidden_size"], 4 * vision["hidden_size"]),
        "layer_norm_eps": (1e-5, 1e-5),
        "hidden_act": (text["hidden_act"],) * 2,
        "num_channels": 3,
    }
    for key, value in got.items():
        if value != expected[key]:
            raise CheckpointError(
                f"{origin} asks for {key} = {value}, expected {expected[key]}: bifocal's towers "
                "have nothing else"
            )
    if text["eos_token_id"] not in (LEGACY_END, text["vocab_size"] - 1):
        raise CheckpointError(
            f"{origin} reads features at the token {text['eos_token_id']}, expected the highest "
            f"id, {text['vocab_size'] - 1}"
        )
