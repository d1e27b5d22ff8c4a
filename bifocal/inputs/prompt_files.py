"""Class names and prompt templates in files: JSON, TOML or plain text.

    classes    JSON ["cat", ["dog", "hound"]] or {"cat": ["cat", "kitten"]}; TOML `classes = [...]`,
               or a table as JSON's, or that table under [classes]; text, one name a line
    templates  JSON ["a photo of a {}."] or, prompts by class, {"cat": ["a cat, which purrs."]};
               TOML `templates = [...]`, or a table, or that under [templates]; text, one a line

Knows the files' forms; knows nothing of what prompts are for.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bifocal.errors import ConfigError
from bifocal.inputs.prompts import ClassNames, Templates, fill


def read_classes(path: Path) -> ClassNames:
    """Return the classes of a file; where one has several names, the first or the key is shown.

    Raises:
        ConfigError: the file cannot be read, or is of no form that is known.
    """
    found = _read(path, "classes", _lines_of_classes)
    try:
        match found:
            case dict():
                return ClassNames(tuple(found), tuple(_texts(found[key]) for key in found))
            case list():
                called = tuple(_texts(one) for one in found)
                return ClassNames(tuple(row[0] for row in called), called)
            case _:
                raise ConfigError(f"it holds a {type(found).__name__}")
    except ConfigError as error:
        raise ConfigError(
            f"{path} must be a JSON list of class names, or a table of lists of names "
            f"(JSON, TOML), or text with one a line: {error}"
        ) from None


def read_templates(path: Path) -> Templates:
    """Return the templates of a file, or its prompts by class.

    Raises:
        ConfigError: the file cannot be read, is of no form that is known, or has a template
            without a place for the name.
    """
    found = _read(path, "templates", _lines_of_templates)
    try:
        match found:
            case dict():
                return {key: _texts(value) for key, value in found.items()}
            case list():
                templates = _texts(found)
            case _:
                raise ConfigError(f"it holds a {type(found).__name__}")
        for template in templates:
            fill(template, "name")
    except ConfigError as error:
        raise ConfigError(
            f"{path} must hold templates as 'a photo of a {{}}.', in a list (JSON, TOML) or one a "
            f"line, or a table of prompts by class: {error}"
        ) from None
    return templates


def _texts(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{value!r} is neither a text nor a list of texts")
    strange = [one for one in values if not isinstance(one, str) or not one.strip()]
    if strange:
        raise ConfigError(f"{strange[0]!r} is no text")
    return tuple(values)


def _read(path: Path, name: str, lines: Callable[[str], list[str]]) -> Any:
    try:
        text = path.read_text("utf-8-sig")
        match path.suffix.lower():
            case ".json":
                return json.loads(text, object_pairs_hook=_table)
            case ".toml":
                table = tomllib.loads(text)
                return table[name] if list(table) == [name] else table
            case _:
                return lines(text)
    except OSError as error:
        raise ConfigError(f"cannot read the {name} {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the {name} {path}: {error}") from None


def _table(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"'{twice}' is there twice")
    return table


def _lines_of_classes(text: str) -> list[str]:
    """Return one name a line; an empty line within would move all labels behind it."""
    found = [line.strip() for line in text.rstrip().splitlines()]
    if "" in found:
        raise ValueError(f"line {found.index('') + 1} is empty, and lines are counted as labels")
    return found


def _lines_of_templates(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
