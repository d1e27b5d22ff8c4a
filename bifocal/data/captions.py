"""Captions and labels from what lies beside a picture: text, JSON, or a class number.

Knows the file formats of a sample's companions; nothing of archives or folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bifocal.errors import ConfigError, DataError
from bifocal.inputs.prompts import prompts


@dataclass(frozen=True)
class CaptionReader:
    """Turns a sample's companions into captions and a label.

    Args:
        class_names: what labels mean; empty if there are none.
        templates: sentences for the names, so that labelled pictures have captions.
    """

    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    _by_class: list[tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        filled = prompts(self.class_names, self.templates) if self._speaks else []
        object.__setattr__(self, "_by_class", [tuple(row) for row in filled])

    @property
    def _speaks(self) -> bool:
        return bool(self.class_names and self.templates)

    def read(self, companions: Mapping[str, bytes]) -> tuple[tuple[str, ...], int | None]:
        """Return the captions and the label, if any, of companions by suffix.

        A JSON list "captions" wins over a text file, that over a JSON "caption", that over the
        class's templates.

        Raises:
            DataError: there is neither caption nor label, or the label has no class.
        """
        table = _json(companions["json"]) if "json" in companions else {}
        label = self._label(companions["cls"]) if "cls" in companions else None
        captions = stripped(table.get("captions"))
        if not captions and "txt" in companions:
            captions = stripped(companions["txt"].decode("utf-8", "replace"))
        captions = captions or stripped(table.get("caption"))
        if not captions and label is not None and self._by_class:
            captions = self._by_class[label]
        if not captions and label is None:
            raise DataError("no caption")
        return captions, label

    def _label(self, raw: bytes) -> int:
        try:
            label = int(raw)
        except ValueError:
            raise DataError("label is not a number") from None
        if not 0 <= label < len(self.class_names):
            raise DataError("label without a class name")
        return label


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a JSON list.

    Raises:
        ConfigError: the file is not a JSON list of strings.
    """
    try:
        names = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the class names {path}: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path} must be a JSON list of class names")
    return tuple(names)


def _json(raw: bytes) -> Mapping[str, Any]:
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise DataError("damaged JSON") from None
    return table if isinstance(table, dict) else {}


def stripped(value: object) -> tuple[str, ...]:
    """Return the texts in a string or a list of strings that hold more than spaces."""
    values: Iterable[object] = value if isinstance(value, list) else [value]
    texts = (text.replace("\0", " ").strip() for text in values if isinstance(text, str))
    return tuple(text for text in texts if text)
