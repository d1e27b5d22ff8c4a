"""From the text of a setting to a source: which kind of data a path means.

scenes:train:100000     built-in scenes: train, val, seen or unseen, and how many
'shards/*.tar'          tar shards, by pattern or folder
pairs.csv               a table (CSV, TSV, JSON lines, Parquet) of paths and captions
folder/                 a folder with shards, one table, or a saved Hugging Face dataset
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from bifocal.data.captions import CaptionReader, read_class_names
from bifocal.data.hf_datasets import HuggingFaceSource
from bifocal.data.sample import Source
from bifocal.data.scenes import SceneClassSource, SceneSource
from bifocal.data.shards import ShardSource
from bifocal.data.tables import TABLES, TableSource, find_table
from bifocal.errors import ConfigError, DataError

SCENES_LENGTH = {"train": 1_000_000, "val": 1_000, "seen": 2_000, "unseen": 2_000}


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read what a path leads to.

    `classes` is the JSON list of class names (by default `classes.json` beside the shards);
    `templates` turn them into captions; the columns name those of a table.
    """

    root: Path = Path()
    classes: str = ""
    templates: tuple[str, ...] = ()
    image_column: str = ""
    caption_column: str = ""
    seed: int = 0
    image_size: int = 64


def open_source(spec: str, reading: Reading) -> Source:
    """Return the source that `spec` names; relative paths start at `reading.root`.

    Raises:
        ConfigError: the kind or a setting is wrong.
        DataError: nothing is there, or nothing in it can be used.
    """
    if spec.partition(":")[0] == "scenes":
        return _scenes(spec, reading)
    path = reading.root / Path(spec).expanduser()
    if path.is_dir():
        return _folder(path, reading)
    if path.suffix.lower() in TABLES:
        return TableSource(path, reading.image_column, reading.caption_column)
    found = sorted(Path(name) for name in glob.glob(str(path)))  # noqa: PTH207 - absolute too
    if not found:
        raise DataError(
            f"nothing matches '{path}': give a pattern of tar shards, a table, or a folder; "
            "data.root (or the environment's BIFOCAL_DATA) is where relative paths start"
        )
    return _shards(found, reading)


def _scenes(spec: str, reading: Reading) -> Source:
    _, kind, length = (*spec.split(":"), "", "")[:3]
    kind = kind or "train"
    if kind not in SCENES_LENGTH or (length and not length.isdigit()):
        raise ConfigError(
            f"'{spec}' is no data: write scenes:KIND or scenes:KIND:LENGTH with KIND "
            f"one of {', '.join(SCENES_LENGTH)}"
        )
    count = int(length or SCENES_LENGTH[kind])
    if kind in ("train", "val"):
        return SceneSource(count, reading.seed, reading.image_size, split=kind)
    return SceneClassSource(count, reading.seed, reading.image_size, seen=kind == "seen")


def _folder(path: Path, reading: Reading) -> Source:
    shards = sorted(path.glob("*.tar"))
    if shards:
        return _shards(shards, reading)
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        return HuggingFaceSource(path, reading.image_column, reading.caption_column)
    return TableSource(find_table(path), reading.image_column, reading.caption_column)


def _shards(paths: list[Path], reading: Reading) -> Source:
    named = reading.root / reading.classes if reading.classes else paths[0].parent / "classes.json"
    names = read_class_names(named) if reading.classes or named.exists() else ()
    return ShardSource(paths, CaptionReader(names, reading.templates))
