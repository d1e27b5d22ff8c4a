"""What may be tried: each setting with its range or its choices, or whole trials by hand.

A space is a TOML file. A setting of the recipe is given

    optim.lr = { low = 1e-4, high = 1e-2, log = true }     # any number between
    optim.weight_decay = { low = 0.0, high = 1.0, step = 0.25 }
    data.batch_size = { choices = [128, 256, 512] }

and a trial by hand, which may name any settings and leaves the others as the recipe has them,

    [[trial]]
    optim.lr = 1e-3

Knows numbers and lists; knows nothing of what a setting means.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bifocal.errors import ConfigError
from bifocal.settings import Settings, build, read_toml
from bifocal.tune.recipe import flat

TRIALS = "trial"
"""Key of the trials by hand in a space file."""
FIXED = ("out",)
"""Settings that a search gives to every trial itself."""


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a number")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]


class Range(Settings):
    """All numbers from `low` to `high`; whole ones if every bound is written without a point."""

    low: Number
    high: Number
    log: bool = False
    """Whether factors count and not differences, as for a learning rate."""
    step: Number | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
        return all(isinstance(n, int) for n in (self.low, self.high, self.step or 1))

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and not self.low > 0:
            raise ValueError(f"a range with log=true begins above 0, not at {self.low}")
        if self.step is None:
            return self
        if self.log:
            raise ValueError("a range has log or step, not both")
        if not self.step > 0:
            raise ValueError(f"step is {self.step}: expected a number above 0")
        if (_exact(self.high) - _exact(self.low)) % _exact(self.step):
            raise ValueError(f"steps of {self.step} from {self.low} do not meet high {self.high}")
        return self

    def values(self) -> list[Any] | None:
        """Return all values in order; None if there are too many to name."""
        if self.step is None:
            return None
        low, step = _exact(self.low), _exact(self.step)
        count = int((_exact(self.high) - low) / step) + 1
        kind = int if self.whole else float
        return [kind(low + n * step) for n in range(count)]

    def ends(self) -> list[Any]:
        """Return the least and the greatest value."""
        return [self.low, self.high]

    def coded_value(self, value: Any) -> Any:
        """Return a value as a database keeps it: as it is."""
        return value


class Choices(Settings):
    """Any of a few values: numbers, words, booleans or lists."""

    choices: tuple[Any, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Choices:
        for first, second in itertools.combinations(self.choices, 2):
            if first == second:
                raise ValueError(f"choices {first!r} and {second!r} are equal")
        return self

    @property
    def coded(self) -> tuple[str | int | float | bool, ...]:
        """The choices as a database keeps them: a list is its JSON."""
        return tuple(json.dumps(c) if isinstance(c, list) else c for c in self.choices)

    def coded_value(self, value: Any) -> Any:
        """Return a choice as a database keeps it."""
        return self.coded[self.choices.index(value)]

    def decoded(self, code: Any) -> Any:
        """Return the choice that a code stands for."""
        return self.choices[self.coded.index(code)]

    def values(self) -> list[Any]:
        """Return all values in order."""
        return list(self.choices)

    def ends(self) -> list[Any]:
        """Return every value: the first and the last say nothing of those between."""
        return list(self.choices)


Dimension = Range | Choices
Trial = Mapping[str, Any]
"""Settings of a trial, by dotted key."""


@dataclass(frozen=True, slots=True)
class Space:
    """Settings that are searched, and trials by hand.

    Args:
        origin: what errors call it: the path of its file.
        dimensions: by dotted key, in the order of the file.
        trials: by hand.
    """

    origin: str
    dimensions: Mapping[str, Dimension]
    trials: tuple[Trial, ...]

    def grid(self) -> list[Trial]:
        """Return every combination once, the last setting changing fastest.

        Raises:
            ConfigError: a range has no steps, so that there are endlessly many.
        """
        values = {}
        for key, dimension in self.dimensions.items():
            values[key] = dimension.values()
            if values[key] is None:
                raise ConfigError(
                    f"{self.origin}: a grid needs values, and '{key}' is a range without steps: "
                    "give it step, or choices"
                )
        combinations = itertools.product(*values.values())
        return [dict(zip(values, row, strict=True)) for row in combinations]

    def coded_grid(self) -> list[Trial]:
        """Return the combinations with every choice as a database keeps it."""
        return [
            {key: self.dimensions[key].coded_value(value) for key, value in row.items()}
            for row in self.grid()
        ]

    def probes(self) -> Iterator[Trial]:
        """Yield a few trials that show whether all keys and values can be used.

        All first values together; then each other end or choice with the rest as in the first.
        """
        first = {key: dimension.ends()[0] for key, dimension in self.dimensions.items()}
        yield first
        for key, dimension in self.dimensions.items():
            for value in dimension.ends()[1:]:
                yield {**first, key: value}


def read_space(path: Path) -> Space:
    """Return the space in a TOML file.

    Raises:
        ConfigError: it cannot be read, or an entry is not what it must be; the message names the
            entry, and the nearest known key.
    """
    table = read_toml(path)
    rows = table.pop(TRIALS, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"{path}: write each trial by hand under a heading [[{TRIALS}]]")
    trials = tuple(flat(row) for row in rows)
    dimensions = dict(_dimensions(table, "", str(path)))
    if not (dimensions or trials):
        raise ConfigError(
            f"{path} names no settings: write them as optim.lr = {{ low = 1e-4, high = 1e-2, "
            "log = true }, or whole trials under [[trial]]"
        )
    for key in itertools.chain(dimensions, *trials):
        if key in FIXED:
            raise ConfigError(f"{path}: '{key}' is given to each trial by the search: leave it out")
    return Space(str(path), dimensions, trials)


def _dimensions(
    table: Mapping[str, Any], above: str, origin: str
) -> Iterator[tuple[str, Dimension]]:
    known = {*Range.model_fields, *Choices.model_fields}
    for key, value in table.items():
        name = f"{above}{key}"
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{origin}: '{name}' is {value!r}: expected {{ low = …, high = … }}, with log or "
                "step if need be, or { choices = […] }"
            )
        if "choices" in value:
            yield name, build(Choices, value, f"{origin}, {name}")
        elif known & value.keys():
            yield name, build(Range, value, f"{origin}, {name}")
        else:
            yield from _dimensions(value, f"{name}.", origin)


def _exact(number: int | float) -> Decimal:
    """Return the decimal number that was written, not the nearest binary one."""
    return Decimal(str(number))
