"""Recipes of several runs, each of which goes on from the model of the one before.

A recipe may end in stages, each the whole recipe with some settings laid on top:

    [[stage]]
    model.image_size = 64
    train.epochs = 10

    [[stage]]
    model.image_size = 96
    train.epochs = 1
    optim.lr = 1e-4

That is how to train at a small size and end at the full one (Li et al. 2023, "CLIPA", arXiv
2305.07017), as the paper's ViT-L/14@336px does with its last epoch (section 2.5). A stage is a run
of its own, in `out/stage-1` and so on, with its schedule, checkpoints and report; the last one's
folder is `out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError, ConfigError
from bifocal.settings import merge, parse_override, read_toml
from bifocal.train import best
from bifocal.train.config import RunConfig
from bifocal.train.objective import loss_of
from bifocal.train.recipe import resolve_run
from bifocal.train.state import preprocess_of

KEY = "stage"


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of a recipe; its settings can be resolved once the stage before it is complete."""

    table: Mapping[str, Any]
    origin: str
    number: int
    stages: int

    def config(self) -> RunConfig:
        """Return the resolved settings.

        Raises:
            ConfigError: a setting is wrong.
            CheckpointError: there is no model of the stage before it.
        """
        return resolve_run(self.table, self.origin)


def load_stages(path: Path, overrides: Iterable[str]) -> list[Stage]:
    """Return the runs of a recipe, one if it has no stages; overrides are laid on top of each.

    Raises:
        ConfigError: the recipe cannot be read, or a setting of any stage is wrong.
    """
    table, above = read_toml(path), {}
    for override in overrides:
        above = merge(above, parse_override(override))
    parts = table.pop(KEY, [{}])
    if not (isinstance(parts, list) and parts and all(isinstance(p, Mapping) for p in parts)):
        raise ConfigError(f"{path}: write stages as tables, each under a line [[{KEY}]]")
    out = Path(merge(table, above).get("out", f"runs/{path.stem}"))
    stages: list[Stage] = []
    for number, part in enumerate(parts, 1):
        whole = merge(merge(table, part), above)
        last = number == len(parts)
        whole["out"] = str(out if last else out / f"{KEY}-{number}")
        if number > 1:
            whole["init"] = stages[-1].table["out"]
        origin = str(path) if len(parts) == 1 else f"{path}, stage {number}"
        stages.append(Stage(whole, origin, number, len(parts)))
    if len(stages) > 1:
        with suppress(CheckpointError):  # gone, which the first stage can tell, or need not know
            foresee(stages)
    return stages


def foresee(stages: Iterable[Stage]) -> list[RunConfig]:
    """Return the settings of all stages as they will be, before there is a model to start from.

    Only the vocabulary may turn out smaller.

    Raises:
        ConfigError: a setting of any stage is wrong.
        CheckpointError: there is no model at what the first stage starts from.
    """
    found: list[RunConfig] = []
    for stage in stages:
        start = (found[-1].model, preprocess_of(found[-1])) if found else None
        config = resolve_run(stage.table, stage.origin, start)
        try:
            loss_of(config)
            best.check_metric(config)
        except ConfigError as error:
            raise ConfigError(f"{stage.origin}: {error}") from None
        found.append(config)
    return found
