"""Recipes as text: a nested table becomes TOML that reads back equal.

Knows how TOML is written, with the reason of a setting above it; knows nothing of what any means.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from bifocal.settings import Table, merge

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def nested(dotted: Mapping[str, Any]) -> Table:
    """Return `{"a.b": 1}` as `{"a": {"b": 1}}`."""
    table: Table = {}
    for key, value in dotted.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        table = merge(table, value)
    return table


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested table by dotted keys: the way back from `nested`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def to_toml(table: Mapping[str, Any], header: str = "", notes: Mapping[str, str] = {}) -> str:
    """Return a table as a TOML document.

    Args:
        table: strings, numbers, booleans, lists and tables; an entry that is None is left out.
        header: comment at the top.
        notes: comments above settings, by dotted key.
    """
    lines = _comment(header)
    _write(table, "", notes, lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _write(table: Mapping[str, Any], above: str, notes: Mapping[str, str], lines: list[str]):
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    plain = {k: v for k, v in table.items() if k not in tables and v is not None}
    if above and (plain or not tables):
        lines += ["", f"[{above.removesuffix('.')}]"]
    for key, value in plain.items():
        lines += _comment(notes.get(f"{above}{key}", ""))
        lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tables.items():
        _write(value, f"{above}{_key(key)}.", notes, lines)


def _comment(text: str) -> list[str]:
    return [
        f"# {line}".rstrip()
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, 96, break_long_words=False) or [""]
    ]


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's; of the characters that TOML forbids, JSON leaves one as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            return str(value)
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case Mapping():
            inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
            return f"{{ {inner} }}"
        case _:
            return _text(str(value))
