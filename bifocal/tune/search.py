"""What a search looks for and how it goes about it: plain data, known before Optuna is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bifocal.errors import ConfigError
from bifocal.tune.space import Space, Trial

Sampler = Literal["grid", "random", "tpe", "manual"]
Pruner = Literal["none", "median", "hyperband"]

TRIALS = 20
"""Trials of a search that draws them, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search.

    Args:
        space: what may be tried.
        sampler: how trials are chosen.
        trials: how many there are in all, over all workers and restarts.
        metric: figure of the last evaluation that is to be best.
        higher: whether more of it is better.
        pruner: which trials are given up on the way.
        resource: pairs read at the first evaluation and at the end of a run; what hyperband deals
            in.
        seed: of the draws.
    """

    space: Space
    sampler: Sampler
    trials: int
    metric: str
    higher: bool
    pruner: Pruner = "none"
    resource: tuple[int, int] = (1, 1)
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what must stay as it is while a study goes on; trials may be added."""
        table: dict[str, Any] = {
            "--sampler": self.sampler,
            "--metric": self.metric,
            "--pruner": self.pruner,
        }
        if self.sampler == "manual":
            # One looks at the figures and writes further trials below.
            return table
        if self.sampler != "grid":
            table["--seed"] = self.seed
        dimensions = self.space.dimensions.items()
        return table | {
            f"space {key}": dimension.model_dump(mode="json", exclude_defaults=True)
            for key, dimension in dimensions
        }


def rows(space: Space, sampler: Sampler) -> list[Trial] | None:
    """Return the trials of a search that lists them; None where they are drawn.

    Raises:
        ConfigError: the space has none of what the sampler needs.
    """
    if sampler == "manual":
        if not space.trials:
            raise ConfigError(f"{space.origin}: a search by hand needs trials under [[trial]]")
        return list(space.trials)
    if not space.dimensions:
        raise ConfigError(
            f"{space.origin}: --sampler {sampler} needs settings with ranges or choices; it has "
            "only trials by hand"
        )
    return space.grid() if sampler == "grid" else None


def probes(space: Space, sampler: Sampler) -> list[Mapping[str, Any]]:
    """Return trials that show whether all keys and values of a search can be used."""
    return list(space.trials) if sampler == "manual" else list(space.probes())
