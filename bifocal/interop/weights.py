"""A file of weights, whatever wrote it: told by its content, never by its name.

Safetensors; torch's zip archives, TorchScript or not; torch's older pickles, read by
`torch.load(weights_only=True)`. Knows how weights are stored; knows nothing of what they mean.
"""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.interop.archive import ZipArchive, read_torchscript

NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the weights beside the state of the optimizer."""


class Storage(StrEnum):
    """How a file keeps its weights."""

    SAFETENSORS = "safetensors"
    TORCHSCRIPT = "torchscript"
    PICKLE = "pickle"


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors by name, and how they were stored."""

    state: dict[str, Tensor]
    storage: Storage


def read_weights(path: Path) -> Weights:
    """Return the weights in a file.

    Raises:
        CheckpointError: it is missing, damaged, no file of weights, or names something to run.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise CheckpointError(f"no weights at {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    if start.startswith(b"PK\x03\x04"):
        archive = ZipArchive(path)
        if "constants.pkl" in archive:
            return Weights(read_torchscript(archive), Storage.TORCHSCRIPT)
        return Weights(_load_pickle(path, mapped=True), Storage.PICKLE)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Weights(_load_safetensors(path), Storage.SAFETENSORS)
    if start.startswith((b"\x80\x02", b"\x80\x04")):
        return Weights(_load_pickle(path, mapped=False), Storage.PICKLE)
    raise CheckpointError(
        f"{path} is no file of weights: expected safetensors or an archive of torch, and its "
        f"{path.stat().st_size} bytes begin with {start[:8]!r}"
    )


def read_sharded(index: Path) -> Weights:
    """Return weights that an index (`model.safetensors.index.json`) spreads over several files.

    Raises:
        CheckpointError: the index is none, or names a file outside of its folder.
    """
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is no index of weights: {error}") from None
    state: dict[str, Tensor] = {}
    for name in sorted(names):
        if Path(name).name != name:
            raise CheckpointError(f"{index} names '{name}', which is not in its own folder")
        state |= read_weights(index.parent / name).state
    return Weights(state, Storage.SAFETENSORS)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged safetensors: {error}") from None


def _load_pickle(path: Path, mapped: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch doubts, it refuses with an error as well
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than weights, or damaged ones, and nothing of it was run: {reason}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or truncated: {reason}") from None
    return _only_tensors(loaded, path)


def _only_tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    for key in NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    tensors = loaded if isinstance(loaded, dict) else {}
    foreign = [str(n) for n, value in tensors.items() if not isinstance(value, Tensor)]
    if not tensors or foreign:
        what = f"'{foreign[0]}' is no tensor" if foreign else "it holds no tensors by name"
        raise CheckpointError(f"{path} is not a state dict: {what}")
    return tensors
