"""From the text of a setting to a source: which kind of data a path means.

scenes:train:100000     built-in scenes: train, val, seen or unseen, and how many
'shards/*.tar'          tar shards, by pattern or folder
pairs.csv               a table (CSV, TSV, JSON lines, Parquet) of paths and captions
folder/                 a folder with shards, one table, or a saved Hugging Face dataset, or with
                        pictures in one folder a class
'shards/{000..127}.tar' braces stand for names, and each must be there
's3://bucket/*.tar'     shards in any store of fsspec, read from a cache on the local disk
'https://…/{00..99}.tar' the same; a store that cannot list needs braces

Several of these, each with a weight, are a mixture.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, PositiveFloat, Tag

from bifocal.data.braces import expand
from bifocal.data.captions import CaptionReader, read_class_names
from bifocal.data.class_folders import ClassFolderSource, has_class_folders
from bifocal.data.hf_datasets import HuggingFaceSource
from bifocal.data.mixture import Mixture
from bifocal.data.patience import Patience
from bifocal.data.plan import WINDOW
from bifocal.data.remote import Fetched
from bifocal.data.sample import Source
from bifocal.data.scenes import SceneClassSource, SceneSource
from bifocal.data.shards import ShardSource
from bifocal.data.shelf import user_cache
from bifocal.data.store import Store
from bifocal.data.stored import Remote, is_remote
from bifocal.data.tables import TABLES, TableSource, find_table
from bifocal.errors import ConfigError, DataError, TrainingError
from bifocal.settings import Settings

_log = logging.getLogger(__name__)
CACHE_GB = 32.0
"""What fetched shards may take of the local disk."""
SCENES_LENGTH = {"train": 1_000_000, "val": 1_000, "seen": 2_000, "unseen": 2_000}


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read what a path leads to.

    `classes` is the JSON list of class names (by default `classes.json` beside the shards);
    `templates` turn them into captions; the columns name those of a table. Shards in a store are
    kept in `cache_dir` (by default bifocal's folder in the user's cache), which takes up to
    `cache_gb`; a store from which no byte comes for `store_timeout` seconds is tried again.
    Pictures of shards may be of several classes if `multi_label` says so.
    """

    root: Path = Path()
    classes: str = ""
    templates: tuple[str, ...] = ()
    image_column: str = ""
    caption_column: str = ""
    seed: int = 0
    image_size: int = 64
    cache_dir: str = ""
    cache_gb: float = CACHE_GB
    store_timeout: float = Patience().stall
    multi_label: bool = False


class Weighted(Settings):
    """One source of a mixture."""

    path: str
    """What it is: see bifocal.data.sources."""
    weight: PositiveFloat
    """Its share of the positions, over the sum of all weights."""


Spec = Annotated[
    Annotated[str, Tag("path")] | Annotated[tuple[Weighted, ...], Tag("mixture")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "mixture"),
]
"""What a setting says of a source; told apart first, so that a mistake is one message."""


def open_source(spec: str | Sequence[Weighted], reading: Reading) -> Source:
    """Return the source that `spec` names, or the mixture; relative paths start at `reading.root`.

    Raises:
        ConfigError: the kind or a setting is wrong.
        DataError: nothing is there, or nothing in it can be used.
    """
    if not isinstance(spec, str):
        sources = [open_source(one.path, reading) for one in spec]
        return Mixture(sources, [one.weight for one in spec])
    if is_remote(spec):
        return _stored(spec, reading)
    if spec.partition(":")[0] == "scenes":
        return _scenes(spec, reading)
    path = reading.root / Path(spec.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _folder(path, reading)
    if path.suffix.lower() in TABLES:
        return TableSource(path, reading.image_column, reading.caption_column)
    found: set[Path] = set()
    for pattern in [str(path)] if path.exists() else expand(str(path)):
        names = [pattern] if Path(pattern).exists() else glob.glob(pattern)  # noqa: PTH207
        if not names:
            raise DataError(
                f"nothing matches '{pattern}': give a pattern of tar shards, a table, or a folder; "
                "data.root (or the environment's BIFOCAL_DATA) is where relative paths start"
            )
        found.update(map(Path, names))
    return _shards(sorted(found), reading)


def _stored(url: str, reading: Reading) -> Source:
    patience = Patience(stall=reading.store_timeout)
    store = Store(url, patience)
    folder = Path(reading.cache_dir).expanduser() if reading.cache_dir else user_cache()
    if folder is None:
        raise ConfigError("no folder for the shards of a store: set data.cache_dir")
    shards = store.find(url)
    archives = Fetched(shards, store, folder, int(reading.cache_gb * 1e9))
    names = _stored_names(shards, store, archives, reading)
    try:
        captions = CaptionReader(names, reading.templates, multi_label=reading.multi_label)
        source = ShardSource([shard.path for shard in shards], captions, archives)
    except TrainingError as error:
        raise DataError(str(error)) from None  # nothing is trained yet
    _warn_of_a_small_cache(sum(shard.stamp.size for shard in shards), len(source), reading)
    return source


def _warn_of_a_small_cache(size: int, samples: int, reading: Reading) -> None:
    """Tell a user whose cache is smaller than what two windows of a shuffled run are read from."""
    needed = min(size, 2 * WINDOW * size // samples) / 1e9
    if needed > reading.cache_gb:
        _log.warning(
            "a shuffled run reads %.3g GB of shards at a time, and data.cache_gb is %g: set it to "
            "%.3g or more, or shards are fetched again and again",
            needed,
            reading.cache_gb,
            1.5 * needed,
        )


def _stored_names(
    shards: Sequence[Remote], store: Store, archives: Fetched, reading: Reading
) -> tuple[str, ...]:
    """Return the class names of `reading.classes`, or of what lies beside the shards."""
    if reading.classes and not is_remote(reading.classes):
        return read_class_names(reading.root / reading.classes)
    beside = shards[0].url.partition("?")[0].rpartition("/")[0] + "/classes.json"
    url = reading.classes or beside
    content = store.read(url)
    if content is None and reading.classes:
        raise ConfigError(f"no class names at {url}: check data.classes")
    if content is None:
        return ()
    path = archives.keep(Path(url).name, content)
    return read_class_names(path)


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
    if not any(one.suffix.lower() in TABLES for one in path.iterdir()) and has_class_folders(path):
        names = read_class_names(reading.root / reading.classes) if reading.classes else ()
        return ClassFolderSource(path, names, reading.templates)
    return TableSource(find_table(path), reading.image_column, reading.caption_column)


def _shards(paths: list[Path], reading: Reading) -> Source:
    named = reading.root / reading.classes if reading.classes else paths[0].parent / "classes.json"
    names = read_class_names(named) if reading.classes or named.exists() else ()
    reader = CaptionReader(names, reading.templates, multi_label=reading.multi_label)
    return ShardSource(paths, reader)
