"""TOML files and dotted overrides become frozen, validated settings.

Knows how a table is read, merged and reported on; knows nothing of what any setting means. Each
room declares its own `Settings` model, beside the code that reads it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bifocal.errors import ConfigError, did_you_mean

S = TypeVar("S", bound="Settings")
Table = dict[str, Any]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, defaults validated too."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=()
    )

    def to_json(self) -> str:
        """Return the resolved settings as indented JSON with a final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def read_toml(path: Path) -> Table:
    """Return the table in a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no recipe at {path}: give the path of a TOML file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse_override(text: str) -> Table:
    """Return the nested table that one `a.b=value` override stands for.

    The value is read as TOML (`0.5`, `true`, `[1, 2]`, `"text"`); what is not TOML is taken as
    a string, so that paths and patterns need no quotes beyond the shell's.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"cannot read the override '{text}': write it as section.key=value")
    try:
        parsed = tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table: Table = {parts[-1]: parsed}
    for part in reversed(parts[:-1]):
        table = {part: table}
    return table


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return `base` with the entries of `over` laid on top, table by table."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def build(settings: type[S], table: Mapping[str, Any], origin: str = "the settings") -> S:
    """Validate `table` as `settings`.

    Raises:
        ConfigError: one line for each wrong key or value; an unknown key names the nearest
            known one.
    """
    try:
        return settings.model_validate(dict(table))
    except ValidationError as error:
        lines = [_explain(settings, item) for item in error.errors()]
        raise ConfigError(f"{origin}: " + "\n  ".join(dict.fromkeys(lines))) from None


def load(
    settings: type[S], path: Path | None, overrides: Iterable[str], base: Mapping[str, Any] = {}
) -> S:
    """Return settings from `base`, then a TOML file, then `a.b=value` overrides, in that order."""
    table = merge(base, read_toml(path) if path else {})
    for override in overrides:
        table = merge(table, parse_override(override))
    return build(settings, table, origin=str(path) if path else "the settings")


def _explain(settings: type[BaseModel], item: Mapping[str, Any]) -> str:
    where = [str(part) for part in item["loc"]]
    dotted = ".".join(part for part in where if not part.endswith("Config"))
    match item["type"]:
        case "extra_forbidden":
            known = _known_keys(settings, item["loc"][:-1])
            hint = did_you_mean(where[-1], known) or f" (known: {', '.join(sorted(known))})"
            return f"unknown setting '{dotted}'{hint}"
        case "missing":
            return f"'{dotted}' is missing: it has no default"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            return f"'{dotted}' is {item['input']!r}: {message}" if dotted else message


def _known_keys(settings: Any, loc: Iterable[Any]) -> list[str]:
    """Follow a pydantic error location down to the model whose key was wrong."""
    models: list[Any] = [settings]
    for part in loc:
        found = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = (
            [inner for annotation in found for inner in _models_in(annotation)]
            or [m for m in models if m.__name__ == part]
            or models
        )
    return [key for m in models for key in m.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for arg in get_args(annotation) for inner in _models_in(arg)]
