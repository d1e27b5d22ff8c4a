"""Pictures in folders, with their captions in a table: CSV, TSV, JSON lines or Parquet.

Rows that name the same picture are one sample with several captions. Paths are relative to the
table's folder. The whole table is held in memory; pictures are read when asked for.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bifocal.data.captions import stripped
from bifocal.data.sample import Sample
from bifocal.errors import ConfigError, DataError, did_you_mean

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
IMAGE_COLUMNS = ("image", "file_name", "filepath", "image_path", "path", "filename")
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "sentence")

Row = Mapping[str, Any]


class TableSource:
    """Samples of a table of picture paths and captions, as one shard.

    Args:
        path: the table.
        image_column: column of the paths; found among the usual names if empty.
        caption_column: column of the captions, each a text or a list of texts.

    Raises:
        ConfigError: a column is missing.
        DataError: the table cannot be read, or no row has a picture and a caption.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: Path, image_column: str = "", caption_column: str = "") -> None:
        rows = _rows(path)
        if not rows:
            raise DataError(f"{path} has no rows: each is a picture's path and a caption")
        columns = list(rows[0])
        image = _column(path, columns, image_column, IMAGE_COLUMNS, "picture paths")
        caption = _column(path, columns, caption_column, CAPTION_COLUMNS, "captions")
        self._path = path
        captions: dict[str, tuple[str, ...]] = {}
        for row in rows:
            texts = stripped(row.get(caption))
            if row.get(image) and texts:
                name = str(row[image])
                captions[name] = captions.get(name, ()) + texts
        self._samples = list(captions.items())
        self.shard_sizes = (len(self._samples),)
        if not self._samples:
            raise DataError(f"no row of {path} has a picture and a caption")
        digest = hashlib.sha256(repr(self._samples).encode("utf-8", "surrogateescape"))
        self.identity = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: its picture cannot be read.
        """
        name, captions = self._samples[index]
        try:
            return Sample(name, (self._path.parent / name).read_bytes(), captions, None)
        except (OSError, ValueError):  # a path may hold what no file system takes
            raise DataError("missing picture") from None

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`."""
        return self._samples[index][1]

    def place(self, index: int) -> str:
        """Return the table's name."""
        return self._path.name


def find_table(folder: Path) -> Path:
    """Return the one table of a folder.

    Raises:
        DataError: there is none, or there are several.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLES)
    if len(found) != 1:
        shown = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(
            f"{folder} must hold one table ({', '.join(TABLES)}) of picture paths and captions; "
            f"found {shown}: name the table itself"
        )
    return found[0]


def _rows(path: Path) -> list[Row]:
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv" as suffix:
                with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                    return list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
            case ".jsonl":
                lines = path.read_text("utf-8", "replace").split("\n")
                return [_table(line) for line in lines if line.strip()]
            case ".parquet":
                return _parquet(path)
            case other:
                raise ConfigError(f"{path}: '{other}' is no table; known are {', '.join(TABLES)}")
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table {path}: {error}") from None


def _table(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"{line[:40]!r} is not a JSON object")
    return row


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigError("reading Parquet needs pyarrow: pip install 'bifocal[parquet]'") from None
    return parquet.read_table(path).to_pylist()


def _column(path: Path, columns: list[str], asked: str, usual: Iterable[str], meaning: str) -> str:
    found = [asked] if asked in columns else [] if asked else [c for c in usual if c in columns]
    if found:
        return found[0]
    wanted = (
        f"no column '{asked}'{did_you_mean(asked, columns)}"
        if asked
        else (f"no column of {meaning} under a usual name ({', '.join(usual)})")
    )
    setting = "data.image_column" if meaning == "picture paths" else "data.caption_column"
    raise ConfigError(f"{path} has {wanted}; its columns are {columns}: set {setting}")
