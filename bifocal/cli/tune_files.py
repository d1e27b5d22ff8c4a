"""What a search leaves for `bifocal train`: the best trial's recipe, and a larger model's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bifocal.cli.tune_trial import recipe_of
from bifocal.errors import ConfigError
from bifocal.files import write_atomically
from bifocal.model import zoo
from bifocal.model.config import CLIPConfig, VisionTransformerConfig
from bifocal.train.folders import one_message
from bifocal.train.recipe import load_run, resolve_run
from bifocal.tune.recipe import to_toml
from bifocal.tune.scale import Tower, Tuned, scale

if TYPE_CHECKING:
    from bifocal.tune.study import Tuning

TUNED_IN_THE_PAPER = "RN50"
"""The model whose learning rate stands for that of unpublished ones."""


def write_best(tuning: Tuning, table: Mapping[str, Any]) -> Path | None:
    """Write `best.toml`, the recipe of the best trial; None if no trial is complete."""
    best = tuning.best()
    if best is None:
        return None
    header = f"Trial {best.number} of {tuning.out}: {tuning.search.metric} {best.value:.4f}."
    recipe = recipe_of(table, best.settings, tuning.out / "best")
    path = tuning.out / "best.toml"
    with one_message(f"write {path}"):
        write_atomically(path, to_toml(recipe, header).encode())
    return path


def write_scaled(tuning: Tuning, table: Mapping[str, Any], name: str) -> Path:
    """Write the best trial's recipe for the larger model of that name.

    Raises:
        ConfigError: no trial is complete, or the recipe cannot be used for it.
    """
    best = tuning.best()
    if best is None:
        raise ConfigError(f"no trial of {tuning.out} is complete: nothing to carry to {name}")
    recipe = recipe_of(table, best.settings, tuning.out / "best")
    config = resolve_run(recipe, "the best trial")
    preset = str(recipe.get("model", {}).get("preset", ""))
    tuned = Tuned(
        recipe=recipe,
        tower=tower(preset, config.model),
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
        warmup_steps=config.optim.warmup_steps,
        batch_size=config.data.batch_size,
    )
    file = re.sub(r"[^A-Za-z0-9]+", "-", name)
    scaled = scale(tuned, tower(name, zoo.config(name)), str(tuning.out / file))
    path = tuning.out / f"{file}.toml"
    with one_message(f"write {path}"):
        write_atomically(path, scaled.toml().encode())
    load_run(path, [])
    return path


def tower(name: str, model: CLIPConfig) -> Tower:
    """Return what the rules of scaling ask of a model; `name` is empty for one without preset."""
    published = name in zoo.LEARNING_RATES
    return Tower(
        name=name,
        lr=zoo.LEARNING_RATES[name if published else TUNED_IN_THE_PAPER],
        published=published,
        patches=isinstance(model.vision, VisionTransformerConfig),
    )
