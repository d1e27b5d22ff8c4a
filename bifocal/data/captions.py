"""Captions and labels from what lies beside a picture: text, JSON, or a class number.

Knows the file formats of a sample's companions; nothing of archives or folders. Text that is not
UTF-8 is refused rather than guessed at; NUL reads as a space, half a surrogate pair as U+FFFD, and
a caption is cut where no context can reach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bifocal.errors import DataError
from bifocal.inputs.prompt_files import read_classes
from bifocal.inputs.prompts import prompts

MAX_CHARACTERS = 4096
"""Characters of a caption that are kept: fifty a token of the published context of 77. Merging one
endless word takes time that grows with its square, hence not many more."""
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class CaptionReader:
    """Turns a sample's companions into captions and a label.

    Args:
        class_names: what labels mean; empty if there are none.
        templates: sentences for the names, so that labelled pictures have captions.
        by_line: whether every line of a text file is a caption of its own.
    """

    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    by_line: bool = False
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
            DataError: there is neither caption nor label, the label has no class, or the text is
                damaged.
        """
        table = _json(companions["json"]) if "json" in companions else {}
        label = self._label(companions["cls"]) if "cls" in companions else None
        captions = stripped(table.get("captions")) if table else ()
        if not captions and "txt" in companions:
            text = _text(companions["txt"])
            captions = stripped([*text.splitlines()] if self.by_line else text)
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
            if len(re.findall(rb"\d+", raw)) > 1:
                raise DataError("several labels: pictures here have one class each") from None
            raise DataError("label is not a number") from None
        if not 0 <= label < len(self.class_names):
            raise DataError("label without a class name")
        return label


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a file, in the order of the labels; see `inputs.prompt_files`.

    Raises:
        ConfigError: the file cannot be read, or is of no form that is known.
    """
    return read_classes(path).shown


def _json(raw: bytes) -> Mapping[str, Any]:
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise DataError("damaged JSON") from None
    return table if isinstance(table, dict) else {}


def _text(raw: bytes) -> str:
    try:
        return raw.decode().removeprefix("\ufeff")  # "utf-8-sig" does the same, slowly
    except UnicodeDecodeError:
        raise DataError("caption is not UTF-8") from None


def stripped(value: object) -> tuple[str, ...]:
    """Return the texts in a string or a list of strings that hold more than spaces."""
    values: Iterable[object] = value if isinstance(value, list) else (value,)
    texts = [_bounded(text) for text in values if isinstance(text, str)]
    return tuple([text for text in texts if text])


def _bounded(text: str) -> str:
    """Return a text without the spaces around it, encodable and no longer than is ever read."""
    text = text.replace("\0", " ").strip()
    if len(text) > MAX_CHARACTERS:
        # Runs of spaces count as one to a tokenizer, so they must not push the words out.
        text = _SPACE.sub(" ", text[: 4 * MAX_CHARACTERS])[:MAX_CHARACTERS].rstrip()
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
