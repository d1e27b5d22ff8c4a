"""The face of `open_clip`: the functions that its programs call, on bifocal.

    import bifocal.compat.open_clip as open_clip
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained="openai")

Different by intention: weights bring their own activation (open_clip takes it from the name of the
architecture and warns when that is wrong), and `jit=True` returns an ordinary module.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from bifocal.compat.clip import published_tokenizer
from bifocal.compat.open_clip_classifier import build_zero_shot_classifier
from bifocal.compat.open_clip_tags import ARCHITECTURES, QUICK, TAGS
from bifocal.compat.pictures import RandomTransform, Statistics, Transform, image_transform
from bifocal.compat.tokens import OpenClipTokenizer
from bifocal.compat.towers import OpenClipModel, open_clip_model
from bifocal.errors import ConfigError, did_you_mean
from bifocal.inputs.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from bifocal.interop import hub, openai
from bifocal.interop.keys import to_openai
from bifocal.interop.load import read, read_folder, read_tokenizer
from bifocal.interop.open_clip_config import format_config
from bifocal.interop.source import Hints, as_float32
from bifocal.interop.weights import read_weights
from bifocal.model.clip import CLIP
from bifocal.model.config import CLIPConfig
from bifocal.pretrained import Pretrained

OPENAI_DATASET_MEAN, OPENAI_DATASET_STD = OPENAI_MEAN, OPENAI_STD
LOCAL, HUB = "local-dir:", "hf-hub:"

__all__ = [
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "build_zero_shot_classifier",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "get_model_config",
    "get_tokenizer",
    "image_transform",
    "list_models",
    "list_pretrained",
    "load_checkpoint",
    "tokenize",
]

_DTYPES = {
    "fp32": torch.float32,
    "amp": torch.float32,
    "amp_bf16": torch.float32,
    "amp_bfloat16": torch.float32,
    "fp16": torch.float16,
    "pure_fp16": torch.float16,
    "bf16": torch.bfloat16,
    "pure_bf16": torch.bfloat16,
}


class ModelOptions(TypedDict, total=False):
    """Arguments of open_clip's factories that bifocal gives a meaning."""

    load_weights: bool
    precision: str
    device: str | torch.device
    jit: bool
    force_quick_gelu: bool
    image_mean: Statistics | None
    image_std: Statistics | None
    cache_dir: str | None
    output_dict: bool | None
    weights_only: bool


def list_models() -> list[str]:
    """Return the names of the architectures."""
    return sorted(ARCHITECTURES)


def list_pretrained(as_str: bool = False) -> list[Any]:
    """Return the published weights as (architecture, tag), or as "architecture:tag"."""
    endings = ("", QUICK)
    pairs = [(f"{n}{e}", tag) for n, tags in TAGS.items() for e in endings for tag in tags]
    return [":".join(pair) for pair in pairs] if as_str else pairs


def get_model_config(model_name: str) -> dict[str, Any] | None:
    """Return an architecture as open_clip's table, or None if there is none of that name."""
    config = ARCHITECTURES.get(model_name.replace("/", "-"))
    return format_config(config) if config else None


def create_model(
    model_name: str, pretrained: str | None = None, **options: Unpack[ModelOptions]
) -> OpenClipModel:
    """Return a model in training mode: `model.eval()` before use, as with open_clip.

    Args:
        model_name: an architecture, `local-dir:PATH` or `hf-hub:OWNER/NAME`.
        pretrained: a tag of `list_pretrained()` or a file; without it the weights are random.
        options: as open_clip's; "fp16" and "bf16" convert all weights.

    Raises:
        RuntimeError: the architecture or the tag is unknown.
        CheckpointError: the weights are damaged, cannot be fetched, or are not of that model.
    """
    _check_options(options)
    found = _source(model_name, pretrained, options)
    given = {"mean": options.get("image_mean"), "std": options.get("image_std")}
    update = {key: tuple(value) for key, value in given.items() if value is not None}
    preprocess = found.preprocess.model_copy(update=update)
    dtype = _DTYPES[options.get("precision", "fp32")]
    network = found.clip.to(device=options.get("device", "cpu"), dtype=dtype)
    return open_clip_model(network, preprocess, bool(options.get("output_dict")))


def create_model_and_transforms(
    model_name: str, pretrained: str | None = None, **options: Unpack[ModelOptions]
) -> tuple[OpenClipModel, RandomTransform, Transform]:
    """Return a model and the transforms of training and of evaluation; see `create_model`."""
    model = create_model(model_name, pretrained, **options)
    described = model.visual.__dict__["preprocess_cfg"]
    evaluation = Transform(described["size"], described["mean"], described["std"])
    return model, RandomTransform(evaluation), evaluation


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    return_transform: bool = True,
    **options: Unpack[ModelOptions],
) -> Any:
    """Return (model, transform of evaluation), or the model alone; weights are required.

    Raises:
        RuntimeError: neither the name nor `pretrained` says which weights.
    """
    if pretrained is None and not model_name.startswith((LOCAL, HUB)):
        raise RuntimeError(f"no weights named for '{model_name}': pass pretrained=")
    model, _, evaluation = create_model_and_transforms(model_name, pretrained, **options)
    return (model, evaluation) if return_transform else model


def get_tokenizer(
    model_name: str = "", context_length: int | None = None, cache_dir: str | None = None
) -> OpenClipTokenizer:
    """Return the tokenizer of a model: the published one, or what a folder or repository holds."""
    if not model_name.startswith((LOCAL, HUB)):
        config = ARCHITECTURES.get(model_name.replace("/", "-"))
        length = config.text.context_length if config else 77
        return OpenClipTokenizer(published_tokenizer(), context_length or length)
    hints = Hints(cache_dir=Path(cache_dir) if cache_dir else None)
    folder = Path(model_name.removeprefix(LOCAL))
    if model_name.startswith(HUB):
        folder = hub.fetch(model_name.removeprefix(HUB), (), hints.cache_dir)
    tokenizer = read_tokenizer(folder, hints)
    return OpenClipTokenizer(tokenizer, context_length or tokenizer.context_length)


def tokenize(texts: str | Sequence[str], context_length: int = 77) -> Tensor:
    """Return rows of the published tokenizer's ids."""
    return OpenClipTokenizer(published_tokenizer(), context_length)(texts)


def load_checkpoint(
    model: torch.nn.Module, checkpoint_path: str | Path, strict: bool = True
) -> Any:
    """Load a file of weights into a model, and return the names that did not match."""
    state = openai.only_weights(to_openai(read_weights(Path(checkpoint_path)).state))
    return model.load_state_dict({n: as_float32(t) for n, t in state.items()}, strict=strict)


def _source(model_name: str, pretrained: str | None, options: ModelOptions) -> Pretrained:
    """Return what the names mean, as a model of bifocal's."""
    cache = options.get("cache_dir")
    hints = Hints("quick_gelu" if options.get("force_quick_gelu") else None)
    hints = replace(hints, cache_dir=Path(cache) if cache else None)
    if model_name.startswith(LOCAL):
        return read_folder(Path(model_name.removeprefix(LOCAL)), hints)
    if model_name.startswith(HUB):
        return read(model_name, hints)
    name = model_name.replace("/", "-")
    if name not in ARCHITECTURES:
        hint = did_you_mean(name, ARCHITECTURES)
        raise RuntimeError(f"no architecture '{model_name}'{hint}: see list_models()")
    plain = name.removesuffix(QUICK)
    config = ARCHITECTURES[plain + QUICK if options.get("force_quick_gelu") else name]
    if pretrained is None or not options.get("load_weights", True):
        return _random(config)
    tag = pretrained.lower().replace("-", "_")
    if tag in TAGS[plain]:
        return read(f"{HUB}{TAGS[plain][tag]}", hints)
    if Path(pretrained).is_file():
        given = replace(
            hints, activation=None, architecture=config, vocabulary=published_tokenizer()
        )
        return openai.read(Path(pretrained), given)
    tags = ", ".join(TAGS[plain])
    raise RuntimeError(f"'{pretrained}' is neither a file nor a tag of {plain}: {tags}")


def _random(config: CLIPConfig) -> Pretrained:
    """Return a model with random weights of torch's global generator, as open_clip's are."""
    model = CLIP(config, seed=int(torch.randint(0, 2**31, (1,)).item()))
    preprocess = Preprocess(image_size=config.vision.image_size)
    return Pretrained(model.eval(), published_tokenizer(), preprocess)


def _check_options(options: ModelOptions) -> None:
    unknown = set(options) - set(ModelOptions.__annotations__)
    if unknown:
        raise ConfigError(f"open_clip's option '{min(unknown)}' has no meaning in bifocal")
    if options.get("precision", "fp32") not in _DTYPES:
        raise ConfigError(f"precision '{options.get('precision')}': known are {', '.join(_DTYPES)}")
    if options.get("jit"):
        warnings.warn("jit=True has no effect: the model is an ordinary module", stacklevel=3)
