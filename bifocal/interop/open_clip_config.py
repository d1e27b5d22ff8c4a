"""open_clip's model configurations: tables of some forty options a tower, read and written.

Those that bifocal's towers have are translated; every other one must stand at the value that
means "off", or the source is refused by the option's name. Knows the tables; knows nothing of
files or weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError, ConfigError
from bifocal.inputs.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from bifocal.interop.vocabulary import PUBLISHED_SIZE
from bifocal.model.config import CLIPConfig, ModifiedResNetConfig, VisionTransformerConfig
from bifocal.settings import build

Table = Mapping[str, Any]

_OFF: dict[str, tuple[Any, ...]] = {
    "mlp_ratio": (4.0,),
    "ls_init_value": (None,),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "pool_type": ("tok", "argmax"),
    "output_tokens": (False,),
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
    "timm_model_name": (None, ""),
    "hf_model_name": (None, ""),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "multimodal_cfg": (None,),
    "tokenizer_mode": (None, ""),
    "tokenizer_kwargs": (None, {}),
}
"""Options of both towers and of the whole, with the values at which bifocal's towers are meant."""

_WITHOUT_EFFECT = frozenset(
    {
        *("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "pad_id", "eos_id"),
        *("hf_tokenizer_name", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
        *("custom_text", "nonscalar_logit_scale"),
        *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"),
        *("timm_drop", "timm_drop_path"),
    }
)
"""Options that training alone reads, or that belong to an option which is off."""


def parse_config(table: Table, origin: Path | str) -> CLIPConfig:
    """Return the architecture of one of open_clip's model configurations.

    Raises:
        CheckpointError: it asks for what bifocal's towers do not have; the message names it.
    """
    table = dict(table)
    vision, text = dict(table.pop("vision_cfg")), dict(table.pop("text_cfg"))
    scale = table.pop("init_logit_scale", None)
    translated = {
        "embed_dim": table.pop("embed_dim"),
        "activation": "quick_gelu" if table.pop("quick_gelu", False) else "gelu",
        "init_logit_bias": table.pop("init_logit_bias", None),
        "vision": _vision(vision),
        "text": {
            "context_length": text.pop("context_length", 77),
            "vocab_size": text.pop("vocab_size", PUBLISHED_SIZE),
            "width": text.pop("width", 512),
            "heads": text.pop("heads", 8),
            "layers": text.pop("layers", 12),
        },
    }
    if scale is not None:
        translated["init_temperature"] = math.exp(-scale)
    for part in (table, vision, text):
        _refuse_unknown(part, origin)
    try:
        return build(CLIPConfig, translated, str(origin))
    except ConfigError as error:
        raise CheckpointError(f"open_clip's configuration cannot be followed: {error}") from None


def parse_preprocess(table: Table, config: CLIPConfig, origin: Path | str) -> Preprocess:
    """Return the preprocessing of a table of open_clip's, whose defaults are OpenAI's.

    Raises:
        CheckpointError: pictures are to be resized in a way that bifocal does not do.
    """
    for key, expected in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        got = table.get(key) or expected
        if got != expected:
            raise CheckpointError(
                f"{origin} asks for {key} '{got}': bifocal resizes the shorter side by bicubic "
                "interpolation and crops the centre"
            )
    mean, std = table.get("mean") or OPENAI_MEAN, table.get("std") or OPENAI_STD
    return Preprocess(image_size=config.vision.image_size, mean=_triple(mean), std=_triple(std))


def format_config(config: CLIPConfig) -> dict[str, Any]:
    """Return an architecture as open_clip's model configuration."""
    vision: dict[str, Any] = {"image_size": config.vision.image_size, "width": config.vision.width}
    match config.vision:
        case VisionTransformerConfig(layers=layers, heads=heads, patch_size=patch, width=width):
            vision |= {"layers": layers, "patch_size": patch, "head_width": width // heads}
        case ModifiedResNetConfig(layers=stages, heads=heads, feature_width=width):
            vision |= {"layers": list(stages), "patch_size": None, "head_width": width // heads}
    table: dict[str, Any] = {
        "embed_dim": config.embed_dim,
        "quick_gelu": config.activation == "quick_gelu",
        "init_logit_scale": math.log(1 / config.init_temperature),
        "vision_cfg": vision,
        "text_cfg": config.text_transformer.model_dump(exclude={"kind"}),
    }
    if config.init_logit_bias is not None:
        table["init_logit_bias"] = config.init_logit_bias
    return table


def _vision(table: dict[str, Any]) -> dict[str, Any]:
    width, head_width = table.pop("width", 768), table.pop("head_width", 64)
    layers, patch_size = table.pop("layers", 12), table.pop("patch_size", 16)
    size = table.pop("image_size", 224)
    translated = {"image_size": _square(size), "width": width, "layers": layers}
    if isinstance(layers, list | tuple):
        return {**translated, "heads": width * 32 // head_width}
    return {**translated, "heads": width // head_width, "patch_size": _square(patch_size)}


def _square(size: Any) -> Any:
    return size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size


def _triple(value: Any) -> tuple[float, float, float]:
    red, green, blue = value if isinstance(value, list | tuple) else (value,) * 3
    return float(red), float(green), float(blue)


def _refuse_unknown(table: Table, origin: Path | str) -> None:
    for key, value in table.items():
        if key not in _WITHOUT_EFFECT and value not in _OFF.get(key, ()):
            raise CheckpointError(
                f"{origin} asks for {key} = {value!r}, which bifocal's towers do not have"
            )
