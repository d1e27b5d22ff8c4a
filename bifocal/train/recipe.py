"""From a recipe to the settings of a run: a TOML file, overrides, a preset, the paper's defaults.

Knows where a setting comes from; what settings there are, `train.config` knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError, ConfigError
from bifocal.inputs.preprocess import Preprocess
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig, VisionTransformerConfig
from bifocal.pretrained import describe, find_model
from bifocal.settings import build, merge, parse_override, read_toml
from bifocal.train.config import OBJECTIVES, RunConfig

DATA_ROOT = "BIFOCAL_DATA"
"""Environment variable that says where relative data paths start."""


def load_run(path: Path, overrides: Iterable[str]) -> RunConfig:
    """Return the run that a recipe and dotted overrides describe, resolved and validated.

    Raises:
        ConfigError: a key is unknown, a value is wrong, or the recipe cannot be read.
    """
    table = read_toml(path)
    for override in overrides:
        table = merge(table, parse_override(override))
    return resolve_run(table, origin=str(path))


def resolve_run(
    table: Mapping[str, Any], origin: str, start: tuple[CLIPConfig, Preprocess] | None = None
) -> RunConfig:
    """Return the run of a table whose model may name a preset, with the paper's defaults.

    Args:
        table: the settings.
        origin: what they are called in messages.
        start: what the model at `init` will be, where there is none yet; by default it is read.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError: there is no model at `init`.
    """
    for section in ("model", "data", "loss", "optim", "train"):
        if not isinstance(table.get(section, {}), Mapping):
            raise ConfigError(f"{origin}: '{section}' is a table, not a value")
    out = table.get("out", f"runs/{Path(origin).stem}")
    if start is None and table.get("init"):
        start = _start(Path(str(table["init"])), Path(str(out)))
    objective = OBJECTIVES.get(str(table.get("loss", {}).get("form", "softmax")), "contrastive")
    described = {"objective": objective, **table.get("model", {})}
    model, preset = _model(described, origin, start[0] if start else None)
    patches = isinstance(model.vision, VisionTransformerConfig)
    defaults = {
        "out": out,
        "data": {"root": os.environ.get(DATA_ROOT, "")},
        "optim": {
            "lr": zoo.LEARNING_RATES.get(preset, 5e-4),
            "beta2": 0.98 if patches else 0.999,
            "eps": 1e-6 if patches else 1e-8,
        },
        "train": {},
    }
    if start is not None:
        defaults["normalize"] = {"mean": start[1].mean, "std": start[1].std}
    resolved = merge(defaults, {**table, "model": model.model_dump()})
    return build(RunConfig, resolved, origin)


def _start(init: Path, out: Path) -> tuple[CLIPConfig, Preprocess]:
    """Return the architecture and preprocessing of `init`; if it is gone, of the run to resume."""
    try:
        return describe(find_model(init))
    except CheckpointError:
        if not any(out.glob("checkpoints/step-*")):
            raise
        return describe(find_model(out))


def _model(
    table: Mapping[str, Any], origin: str, start: CLIPConfig | None
) -> tuple[CLIPConfig, str]:
    """Return the architecture: the preset's with the other keys on top; and the preset's name.

    The architecture that a run starts from stands in for the preset, and beats it.
    """
    table = dict(table)
    preset = table.pop("preset", "")
    size = table.pop("image_size", None)
    base = zoo.config(preset).model_dump() if preset else {}
    if start is not None:
        base = start.model_dump()
    if size is not None:
        table = merge(table, {"vision": {"image_size": size}})
    if not (base or table.keys() - {"objective"}):
        raise ConfigError(
            f"{origin}: no model; set model.preset to one of {', '.join(zoo.names())}"
        )
    merged = merge(_of_kind(base, table), table)
    return build(CLIPConfig, merged, f"{origin}, model"), preset


def _of_kind(base: Mapping[str, Any], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the base with what a text tower of the asked-for kind has in common with its own."""
    text = table.get("text", {})
    kind = text.get("kind") if isinstance(text, Mapping) else None
    if not base or kind in (None, base["text"]["kind"]):
        return base
    common = {key: base["text"][key] for key in ("context_length", "vocab_size", "width")}
    return {**base, "text": common}
