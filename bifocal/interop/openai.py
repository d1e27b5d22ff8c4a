"""OpenAI's files: the TorchScript archives that it published, and bare state dicts in its layout.

An archive says all but the vocabulary: sizes by the shapes of its weights, QuickGELU because every
archive of OpenAI's means it. A bare state dict looks the same with either activation, so it must
be asked for. Knows OpenAI's conventions; how files are stored is `weights`' and `archive`'s.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.inputs.preprocess import Preprocess
from bifocal.interop import layout
from bifocal.interop.keys import to_openai
from bifocal.interop.source import Hints, assemble, check_activation
from bifocal.interop.vocabulary import PUBLISHED_SIZE, find_tokenizer, write_openai
from bifocal.interop.weights import Storage, read_weights
from bifocal.model.config import Activation, CLIPConfig, ModifiedResNetConfig
from bifocal.pretrained import Pretrained

NOT_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Integers that OpenAI's archives carry among their weights."""
ATTENTION_MASK = "attn_mask"
"""A constant of every text block in an archive."""


def read(path: Path, hints: Hints) -> Pretrained:
    """Return the model in one file of weights: OpenAI's archive, or a bare state dict.

    Pictures are prepared as OpenAI's models expect (its mean and deviation), which is the default
    of every library that writes such files.

    Raises:
        CheckpointError: the file is damaged or no CLIP, or its activation is not known.
        TokenizerError: no vocabulary was found for it.
    """
    weights = read_weights(path)
    # Hugging Face's names are no less bare: the activation stands in a config.json, not here.
    published = weights.storage is Storage.TORCHSCRIPT
    state = only_weights(to_openai(only_weights(weights.state)))
    config = _architecture(state, hints, published, path)
    tokenizer = find_tokenizer(config.text_transformer, hints, path, None)
    return assemble(config, state, tokenizer, _preprocess(config), path)


def write(pretrained: Pretrained, path: Path) -> Path | None:
    """Write a state dict that `clip.model.build_model` of OpenAI's package builds its model from.

    A vocabulary other than the published one goes beside it, as `SimpleTokenizer` reads it.

    Returns:
        Where the vocabulary went, or None for the published one.

    Raises:
        CheckpointError: the model is not what OpenAI's package would build from these weights, or
            it cannot be written.
    """
    _check_expressible(pretrained)
    state = {name: tensor.contiguous() for name, tensor in pretrained.model.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(state, path, metadata={"format": "pt"})
        else:
            torch.save(state, path)
        if pretrained.tokenizer.vocab_size == PUBLISHED_SIZE:
            return None
        beside = path.with_name(f"{path.stem}.bpe.txt.gz")
        write_openai(pretrained.tokenizer, beside)
        return beside
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write OpenAI's layout to {path}: {error}") from None


def only_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` without the constants that OpenAI's archives keep among the weights."""
    kept = state.items()
    return {n: t for n, t in kept if n not in NOT_WEIGHTS and not n.endswith(ATTENTION_MASK)}


def _architecture(
    state: dict[str, Tensor], hints: Hints, published: bool, path: Path
) -> CLIPConfig:
    if published:
        check_activation(hints, path, "quick_gelu")
    if hints.architecture is not None:
        stated = hints.architecture.activation
        check_activation(hints, path, stated)
        if published and stated != "quick_gelu":
            raise CheckpointError(
                f"{path} is an archive of OpenAI's, which means quick_gelu, and the architecture "
                f"says {stated}: name the one with quick_gelu"
            )
        return hints.architecture
    activation: Activation | None = "quick_gelu" if published else hints.activation
    if activation is None:
        raise CheckpointError(
            f"{path} is a bare state dict, and weights do not say which activation they were "
            "trained with: pass activation='quick_gelu' (OpenAI's models and others after them) "
            "or 'gelu', or load a folder that holds a configuration"
        )
    return layout.infer(state, activation)


def _preprocess(config: CLIPConfig) -> Preprocess:
    return Preprocess(image_size=config.vision.image_size)


def _check_expressible(pretrained: Pretrained) -> None:
    """Refuse what OpenAI's package would silently build differently from the same weights."""
    config = pretrained.clip.config
    vision, text = config.vision, config.text_transformer
    width = vision.feature_width if isinstance(vision, ModifiedResNetConfig) else vision.width
    faults = {
        f"its activation is {config.activation}, not quick_gelu": config.activation != "quick_gelu",
        "it has a logit bias": config.init_logit_bias is not None,
        "its heads are not 64 channels wide": (vision.heads, text.heads)
        != (layout.heads(width), layout.heads(text.width)),
        "its pictures have another mean or deviation": pretrained.preprocess != _preprocess(config),
    }
    found = [fault for fault, present in faults.items() if present]
    if found:
        raise CheckpointError(
            f"OpenAI's package cannot hold this model: {'; '.join(found)}. It would compute other "
            "features from the same weights; convert to bifocal, open_clip or huggingface instead"
        )
