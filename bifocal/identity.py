"""Which model and which data: hashes that are equal exactly when the features are.

A name is kept beside them for people; it decides nothing. Knows saved models and sources; knows
nothing of what is made of their features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.pretrained import Pretrained

JSON = Any
"""What JSON can say: null, booleans, numbers, texts, lists and tables of them."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model; equal hashes, equal features."""

    name: str
    """As it was asked for; decides nothing."""
    weights: str
    config: str
    tokenizer: str
    transform: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """Which examples were read."""

    spec: str
    """As it was asked for; decides nothing."""
    identity: str
    """Hash of the content, as the source gives it."""
    samples: int
    """Read at most, from the first: the source's length or the limit."""
    split: str | None = None
    """Where the data are laid out in several."""


def identify_model(pretrained: Pretrained, name: str) -> ModelIdentity:
    """Return the identity of a model: hashes of weights, architecture and vocabulary."""
    config = pretrained.model.config.model_dump(mode="json")
    if config["projection"] == "linear":  # as of every model before there was another
        del config["projection"]
    return ModelIdentity(
        name=name,
        weights=hash_tensors(pretrained.model.state_dict()),
        config=fingerprint(config),
        tokenizer=hash_tokenizer(pretrained.tokenizer),
        transform=pretrained.preprocess.model_dump(mode="json"),
    )


def identify_data(
    source: Source, spec: str, *, limit: int | None = None, split: str | None = None
) -> DataIdentity:
    """Return the identity of the first `limit` samples of a source, or of all."""
    return DataIdentity(spec, source.identity, min(len(source), limit or len(source)), split)


def hash_tokenizer(tokenizer: Tokenizer) -> str:
    """Return the sha256 (hex) of what decides the ids of any text."""
    return fingerprint([tokenizer.context_length, *(" ".join(one) for one in tokenizer.merges)])


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and values, names sorted."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint(value: JSON) -> str:
    """Return the sha256 (hex) of a value in JSON, keys sorted."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def unlike(found: JSON, expected: JSON, path: str = "") -> list[str]:
    """Return where two identities differ, as "data identity 3f2a… instead of 91cc…".

    Args:
        found: what is there.
        expected: what is asked for.
        path: what both are called.
    """
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        parts = [
            unlike(found.get(key), expected.get(key), f"{path} {key}".strip())
            for key in sorted(found.keys() | expected.keys())
            if not (key == "name" and path.endswith(("model", "data")))
        ]
        return [one for part in parts for one in part]
    if found == expected:
        return []
    return [f"{path} {_short(found)} instead of {_short(expected)}"]


def _short(value: JSON) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
