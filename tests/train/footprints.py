"""Steps of real runs and the memory that they took, beside the plan's; a program of its own.

Linux says how much of a process was resident at most since it was last asked to forget.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from bifocal.inputs.preprocess import Preprocess
from bifocal.model.config import CLIPConfig
from bifocal.settings import merge
from bifocal.train.config import RunConfig
from bifocal.train.cost import setup_of
from bifocal.train.footprint import footprint
from bifocal.train.recipe import resolve_run
from bifocal.train.trial import trial
from bifocal.world import ALONE

LENGTH = 16
FORGET = Path("/proc/self/clear_refs")
TEXT = {"context_length": LENGTH, "vocab_size": 1024, "width": 64, "layers": 1, "heads": 1}
VIT = {"image_size": 64, "patch_size": 8, "width": 64, "layers": 5, "heads": 1}
RESNET = {"image_size": 64, "width": 16, "layers": [1, 1, 1, 1], "heads": 8}
CASES: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "vit": (VIT, 256, {}),
    "vit, checkpointing": (VIT, 256, {"gradient_checkpointing": True}),
    "vit, chunks": (VIT, 256, {"chunk_size": 128}),
    "vit, bfloat16": (VIT, 128, {"precision": "bfloat16"}),
    "vit, stored features": (VIT, 8192, {"lock": "image"}),
    "resnet": (RESNET, 256, {}),
    "resnet, checkpointing": (RESNET, 256, {"gradient_checkpointing": True}),
}
"""Image tower, pairs and settings: some 300 MB of activations where all are kept."""


def settings(vision: dict[str, Any], pairs: int, train: dict[str, Any]) -> RunConfig:
    model = {"embed_dim": 32, "vision": vision, "text": TEXT}
    table = {
        "out": "unused",
        "model": model,
        "data": {"train": "unused", "batch_size": pairs},
        "train": merge({"steps": 1, "device": "cpu"}, train),
    }
    if "lock" not in train:
        return resolve_run(table, "test")
    table = merge(table, {"init": "unused", "data": {"image_features": "unused"}})
    return resolve_run(table, "test", (CLIPConfig.model_validate(model), Preprocess(image_size=64)))


def resident(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def measured(config: RunConfig) -> int:
    """Return the bytes by which a run and one step of it raise the peak."""
    gc.collect()
    FORGET.write_text("5")
    before = resident("VmRSS")
    trial(config, LENGTH, ALONE).step()
    return resident("VmHWM") - before


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for name, (vision, pairs, train) in CASES.items():
        measured(settings(vision, 8, train))  # what a library loads when it is first used
        config = settings(vision, pairs, train)
        predicted = footprint(setup_of(config, length=LENGTH))
        found[name] = {
            "measured": measured(config),
            "predicted": predicted.peak,
            "activations": predicted.activations,
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
