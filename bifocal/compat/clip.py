"""The face of OpenAI's package `clip`: its functions, arguments and meanings, on bifocal.

    import bifocal.compat.clip as clip
    model, preprocess = clip.load("ViT-B/32")

Different by intention: weights stay float32 on every device (OpenAI's are float16 on a GPU), which
only makes features more exact; `jit=True` returns the same ordinary module, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from bifocal.compat.pictures import Transform
from bifocal.compat.towers import ClipModel, clip_model
from bifocal.errors import CheckpointError
from bifocal.inputs.tokenizer import Tokenizer, pad
from bifocal.interop import hub
from bifocal.interop.load import load as load_pretrained
from bifocal.interop.source import Hints
from bifocal.interop.vocabulary import find_tokenizer
from bifocal.model.config import TextConfig

__all__ = ["available_models", "load", "tokenize"]

VOCABULARY = "BIFOCAL_VOCABULARY"
"""Environment variable with the path of the published vocabulary, where no package ships it."""


def available_models() -> list[str]:
    """Return the names of the published models."""
    return list(hub.REPOSITORIES)


def load(
    name: str,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | None = None,
) -> tuple[ClipModel, Transform]:
    """Return a model in evaluation mode and the transform of its pictures.

    Args:
        name: one of `available_models()`, or the path of whatever `bifocal.load` takes. A bare
            state dict means QuickGELU here, as it does in OpenAI's package.
        device: a GPU if there is one, by default.
        jit: accepted; there is no compiled archive to run.
        download_root: where downloads are kept.

    Raises:
        RuntimeError: there is no such model.
        CheckpointError: it is damaged or cannot be fetched.
    """
    if jit:
        warnings.warn("jit=True has no effect: the model is an ordinary module", stacklevel=2)
    if name not in hub.REPOSITORIES and not Path(name).exists():
        raise RuntimeError(f"no model '{name}': known are {', '.join(available_models())}")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = load_pretrained(
        name,
        chosen,
        activation="quick_gelu" if Path(name).is_file() else None,
        vocabulary=_given_vocabulary(),
        cache_dir=download_root,
    )
    size, mean, std = found.preprocess.image_size, found.preprocess.mean, found.preprocess.std
    if found.model.config.init_logit_bias is not None:
        raise CheckpointError(f"'{name}' has a logit bias, which OpenAI's interface does not know")
    return clip_model(found.clip), Transform(size, mean, std)


def tokenize(
    texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
) -> Int[Tensor, "batch length"]:
    """Return rows of OpenAI's ids, padded with 0.

    Args:
        texts: one text or several.
        context_length: ids a row.
        truncate: whether longer texts are cut, keeping the end-of-text token.

    Raises:
        RuntimeError: a text is longer than the context and may not be cut.
    """
    tokenizer = published_tokenizer()
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        row = [tokenizer.start, *tokenizer.encode(text), tokenizer.end]
        if len(row) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"{len(row)} tokens for a context of {context_length}: shorten the text "
                    f"'{text}', or pass truncate=True"
                )
            row = [*row[: context_length - 1], tokenizer.end]
        rows.append(row)
    return pad(rows, context_length).int()


@cache
def published_tokenizer() -> Tokenizer:
    """Return OpenAI's tokenizer, found once: by path, in a package that ships it, or on the hub.

    Raises:
        TokenizerError: it is nowhere to be found; the message says how to give it.
    """
    return find_tokenizer(TextConfig(), Hints(vocabulary=_given_vocabulary()), Path("clip"), None)


def _given_vocabulary() -> Path | None:
    given = os.environ.get(VOCABULARY)
    return Path(given) if given else None
