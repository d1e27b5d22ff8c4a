"""Captions and labels from what lies beside a picture: text, JSON, or class numbers.

Knows the file formats of a sample's companions; nothing of archives or folders. Text that is not
UTF-8 is refused rather than guessed at; NUL reads as a space, half a surrogate pair as U+FFFD, and
a caption is cut where no context can reach.
"""

from __future__ import annotations

import io
import json
import re
import threading
import tokenize
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bifocal.data.pairing import ARRAYS, TEXTS
from bifocal.errors import DataError
from bifocal.inputs.prompt_files import read_classes
from bifocal.inputs.prompts import prompts

MAX_CHARACTERS = 4096
"""Characters of a caption that are kept: fifty a token of the published context of 77. Merging one
endless word takes time that grows with its square, hence not many more."""
NUMBERS = "biuf"
"""Kinds of a numpy array that labels may have."""
TRIES = 10
"""Of reading a header; see `_header`."""
_ONE_PARSER = threading.Lock()
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_HEADER_FAULTS = (
    *(ValueError, TypeError, LookupError, AttributeError, OSError, EOFError, MemoryError),
    *(SyntaxError, RecursionError, tokenize.TokenError),
)
_NUMBER = re.compile(rb"-?\d{1,9}")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class CaptionReader:
    """Turns a sample's companions into captions and a label.

    Args:
        class_names: what labels mean; empty if there are none.
        templates: sentences for the names, so that labelled pictures have captions.
        by_line: whether every line of a text file is a caption of its own.
        multi_label: whether a picture may be of several classes, or of none.

    Attributes:
        suffixes: of the companions that are read.
    """

    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    by_line: bool = False
    multi_label: bool = False
    suffixes: tuple[str, ...] = field(init=False, repr=False)
    _by_class: list[tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        filled = prompts(self.class_names, self.templates) if self._speaks else []
        object.__setattr__(self, "_by_class", [tuple(row) for row in filled])
        object.__setattr__(self, "suffixes", TEXTS + ARRAYS if self.multi_label else TEXTS)

    @property
    def _speaks(self) -> bool:
        return bool(self.class_names and self.templates)

    def read(self, companions: Mapping[str, bytes]) -> tuple[tuple[str, ...], int | None]:
        """Return the captions and the label, if any, of companions by suffix.

        A JSON list "captions" wins over a text file, that over a JSON "caption", that over the
        class's templates. Where a picture may be of several classes it has no one label, and no
        caption need say anything.

        Raises:
            DataError: there is neither caption nor label, the label has no class, or the text is
                damaged.
        """
        table = _json(companions["json"]) if "json" in companions else {}
        one = "cls" in companions and not self.multi_label
        label = self._label(companions["cls"]) if one else None
        captions = stripped(table.get("captions")) if table else ()
        if not captions and "txt" in companions:
            text = _text(companions["txt"])
            captions = stripped([*text.splitlines()] if self.by_line else text)
        captions = captions or stripped(table.get("caption"))
        if not captions and label is not None and self._by_class:
            captions = self._by_class[label]
        if not captions and label is None and not self.multi_label:
            raise DataError("no caption")
        return captions, label

    def labels(self, companions: Mapping[str, bytes]) -> tuple[int, ...]:
        """Return all classes that a picture is of, in order, from companions by suffix.

        They are numbers in .cls, with spaces or commas between them, or an array in .npy with one
        number a class, above zero where the picture is of it (CLIP_benchmark's form).

        Raises:
            DataError: there is neither, either is damaged, or a number has no class.
        """
        if "npy" in companions:
            return _of_array(companions["npy"], len(self.class_names))
        if "cls" not in companions:
            raise DataError("no labels")
        numbers = [part for part in re.split(rb"[\s,]+", companions["cls"]) if part]
        if not all(_NUMBER.fullmatch(part) for part in numbers):
            raise DataError("a label is not a number")
        found = set(map(int, numbers))
        if found and not 0 <= min(found) <= max(found) < len(self.class_names):
            raise DataError("label without a class name")
        return tuple(sorted(found))

    def _label(self, raw: bytes) -> int:
        try:
            label = int(raw)
        except ValueError:
            if len(re.findall(rb"\d+", raw)) > 1:
                raise DataError("several labels, where one is expected") from None
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


def _of_array(raw: bytes, classes: int) -> tuple[int, ...]:
    file = io.BytesIO(raw)
    try:
        # numpy's header is a Python literal: whatever reading one may raise, and no more is read.
        shape, dtype = _header(file)
        array = np.frombuffer(raw, dtype, offset=file.tell()) if dtype.kind in NUMBERS else None
    except _HEADER_FAULTS:
        raise DataError("damaged array of labels") from None
    if array is None or shape != (classes,) or np.isnan(array).any():
        raise DataError("array of labels without one number a class")
    if len(array) != classes:
        raise DataError("damaged array of labels")
    return tuple(np.flatnonzero(array > 0).tolist())


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array, and leave the file where its numbers begin.

    Python's parser counts its depth for all threads together (cpython#106905): one may be told that
    it went wrong because another was at work, and asks again.
    """
    read_header = _HEADERS[np.lib.format.read_magic(file)]
    begin = file.tell()
    for _ in range(TRIES):
        with suppress(SystemError), _ONE_PARSER:
            shape, _, dtype = read_header(file)
            return shape, dtype
        file.seek(begin)
    raise ValueError("no header can be read")


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
