"""The state of a run on disk: written whole or not at all, checked when it is read.

A checkpoint is a model folder (see bifocal.pretrained) with the optimizer's statistics and the
cursor beside it. It is written under a temporary name, synced and renamed, so that a crash or a
full disk leaves the one before it as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.pretrained import WEIGHTS, check_state
from bifocal.train.state import Run
from bifocal.types import Cursor

FOLDER = "checkpoints"
OPTIMIZER, AVERAGE = "optimizer.safetensors", "average.safetensors"
STATE, RUN_CONFIG = "state.json", "run.json"
UNFINISHED = ".unfinished-"


def save(run: Run, out: Path) -> Path:
    """Write the run's state and return its folder; older ones beyond `keep_last` are deleted.

    Of several processes the leading one writes; all return when it is done.

    Raises:
        CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = out / FOLDER / f"step-{run.step:08d}"
    if run.world.leads:
        _write(run, out, final)
    run.world.wait()
    return final


def _write(run: Run, out: Path, final: Path) -> None:
    if final.exists() and _fault(final) is None:
        return
    temporary = final.with_name(UNFINISHED + final.name)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        run.pretrained.save(temporary)
        save_file(_statistics(run), temporary / OPTIMIZER)
        if run.average:
            averages = {name: t.contiguous() for name, t in run.average.tensors().items()}
            save_file(averages, temporary / AVERAGE)
        (temporary / RUN_CONFIG).write_text(run.config.to_json(), "utf-8")
        state: dict[str, Any] = {
            "step": run.step,
            "position": run.cursor.position,
            "data": run.cursor.identity,
            "rejected": run.rejected,
            "updates": run.updates,
            "scaler": run.scaler.state() if run.scaler else {},
            "sha256": {path.name: _sha256(path) for path in sorted(temporary.iterdir())},
        }
        state["sha256"][STATE] = _state_sha256(state)
        (temporary / STATE).write_text(json.dumps(state, indent=2) + "\n", "utf-8")
        for path in temporary.iterdir():
            _sync(path)
        if final.exists():
            shutil.rmtree(final)  # a damaged one: its like was trained again
        temporary.rename(final)
        _sync(final.parent)
    except (OSError, SafetensorError, CheckpointError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        before = latest(out, lambda message: None)
        kept = f"{before} is intact" if before else "there is no earlier one"
        raise CheckpointError(
            f"cannot write the checkpoint of step {run.step}: {error}; {kept}. Free some space "
            "and run the same command again to resume"
        ) from None
    for old in _found(out)[: -run.config.train.keep_last]:
        shutil.rmtree(old)


def latest(out: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files are whole; `say` is told of damaged ones."""
    for folder in reversed(_found(out)):
        fault = _fault(folder)
        if fault is None:
            return folder
        say(f"{folder} is damaged ({fault}): using the one before it")
    return None


def restore(run: Run, folder: Path) -> None:
    """Put the state in `folder` into a new run of the same configuration and data.

    Raises:
        CheckpointError: it is of other data or of another model.
    """
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        weights, statistics = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
        average = load_file(folder / AVERAGE) if run.average else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from None
    if state["data"] != run.cursor.identity:
        raise CheckpointError(
            f"{folder} was trained on other data than these: give the data that it began with, or "
            "start a new run with another out="
        )
    check_state(run.model, weights, folder)
    run.model.load_state_dict(weights)
    parameters = dict(run.model.named_parameters())
    for key, tensor in statistics.items():
        kind, _, name = key.partition("/")
        target = run.optimizer.state[parameters[name]]
        layout = parameters[name] if tensor.shape == parameters[name].shape else tensor
        target[kind] = torch.empty_like(layout, dtype=tensor.dtype).copy_(tensor)
    if run.average:
        run.average.load(average)
    if run.scaler:
        run.scaler.load(state["scaler"])
    run.step, run.rejected, run.updates = state["step"], state["rejected"], state["updates"]
    run.cursor = Cursor(state["position"], state["data"])


def _statistics(run: Run) -> dict[str, Tensor]:
    """Return the optimizer's state as "kind/parameter name" -> tensor."""
    return {
        f"{kind}/{name}": value.contiguous()
        for name, parameter in run.model.named_parameters()
        for kind, value in run.optimizer.state.get(parameter, {}).items()
    }


def _found(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("step-*"))


def _fault(folder: Path) -> str | None:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text("utf-8"))
        for name, digest in state["sha256"].items():
            found = _state_sha256(state) if name == STATE else _sha256(folder / name)
            if found != digest:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_sha256(state: Mapping[str, Any]) -> str:
    place = {key: value for key, value in state.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
