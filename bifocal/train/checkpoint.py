"""The state of a run on disk: written whole or not at all, checked when it is read.

A checkpoint is a model folder (see bifocal.pretrained) with the optimizer's statistics and the
cursor beside it. It is written under a temporary name, synced and renamed, so that a crash or a
full disk leaves the one before it as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.optim.spread import local, own_rows, whole
from bifocal.optim.statistics import ON_THE_CPU
from bifocal.pretrained import WEIGHTS, check_state
from bifocal.train.folders import fault, one_message, whole_folder, write_sealed
from bifocal.train.sharding import load_whole
from bifocal.train.state import Run
from bifocal.types import Cursor

FOLDER = "checkpoints"
OPTIMIZER, AVERAGE = "optimizer.safetensors", "average.safetensors"
STATE, RUN_CONFIG = "state.json", "run.json"


def save(run: Run, out: Path) -> Path:
    """Write the run's state and return its folder; older ones beyond `keep_last` are deleted.

    Of several processes the leading one writes; all return when it is done.

    Raises:
        CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = out / FOLDER / f"step-{run.step:08d}"
    leads = run.world.leads
    whole_run, tensors = run.whole(), {OPTIMIZER: _statistics(run, keep=leads)}
    if run.average:
        tensors[AVERAGE] = run.average.tensors(keep=leads)
    if leads and not (final.exists() and fault(final, STATE) is None):
        _write(whole_run, tensors, out, final)
    run.world.wait()
    return final


def _write(run: Run, tensors: Mapping[str, Mapping[str, Tensor]], out: Path, final: Path) -> None:
    try:
        with whole_folder(final) as folder:
            run.pretrained.save(folder)
            for name, table in tensors.items():
                save_file({key: t.contiguous() for key, t in table.items()}, folder / name)
            (folder / RUN_CONFIG).write_text(run.config.to_json(), "utf-8")
            state: dict[str, Any] = {
                "step": run.step,
                "position": run.cursor.position,
                "data": run.cursor.identity,
                "rejected": run.rejected,
                "updates": run.updates,
                "scaler": run.scaler.state() if run.scaler else {},
            }
            write_sealed(folder, STATE, state)
    except (OSError, SafetensorError, CheckpointError) as error:
        before = latest(out, lambda message: None)
        kept = f"{before} is intact" if before else "there is no earlier one"
        raise CheckpointError(
            f"cannot write the checkpoint of step {run.step}: {error}; {kept}. Free some space "
            "and run the same command again to resume"
        ) from None
    # Of those of a later step none was whole, or the run would not stand here.
    kept = [folder for folder in _found(out) if folder.name <= final.name]
    kept = kept[-run.config.train.keep_last :]
    for old in _found(out):
        if old in kept:
            continue
        with one_message(f"delete {old}"):
            shutil.rmtree(old)


def latest(out: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files are whole; `say` is told of damaged ones."""
    for folder in reversed(_found(out)):
        damage = fault(folder, STATE)
        if damage is None:
            return folder
        say(f"{folder} is damaged ({damage}) and is passed over")
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
    load_whole(run.model, weights)
    parameters = dict(run.model.named_parameters())
    for key, tensor in statistics.items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        layout = tensor
        if kind not in ON_THE_CPU:
            layout, tensor = local(parameter), own_rows(tensor, parameter)
        copied = torch.empty_like(layout, dtype=tensor.dtype).copy_(tensor)
        run.optimizer.state[parameter][kind] = copied
    if run.average:
        run.average.load(average)
    if run.scaler:
        run.scaler.load(state["scaler"])
    run.step, run.rejected, run.updates = state["step"], state["rejected"], state["updates"]
    run.cursor = Cursor(state["position"], state["data"])


def _statistics(run: Run, *, keep: bool) -> dict[str, Tensor]:
    """Return the optimizer's state as "kind/parameter name" -> whole tensor, or take part in it."""
    found = {}
    for name, parameter in run.model.named_parameters():
        for kind, value in run.optimizer.state.get(parameter, {}).items():
            put_together = whole(value, parameter)
            if keep:
                found[f"{kind}/{name}"] = put_together.cpu()  # all of them might not fit a device
    return found


def _found(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("step-*"))
