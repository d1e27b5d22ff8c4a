"""Many data sets, models and tasks from one file: measured cell by cell, and never twice.

Each cell's record is kept under the hash of all that decides it (weights, data, prompts, protocol,
release), so that a suite that was stopped goes on where it was, and one that has grown measures
only what is new. What is new reads the features that are there (`suite_features`). A cell that
fails is a row that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bifocal.data.sources import Reading
from bifocal.errors import BifocalError, ConfigError, DataError
from bifocal.evaluate.cell import Cell, measure, origin_of, prompts_of
from bifocal.evaluate.opening import Opened, as_read_by, open_split
from bifocal.evaluate.record import Record, read_record, write_record
from bifocal.evaluate.results import LINEAR_PROBE, RETRIEVAL, ZERO_SHOT, Origin
from bifocal.evaluate.suite_config import DataEntry, SuiteConfig
from bifocal.evaluate.suite_features import Kept
from bifocal.evaluate.suite_rows import Row, failed_row, file_name, row_of
from bifocal.identity import ModelIdentity, fingerprint, identify_model
from bifocal.inputs.prompts import PHOTO
from bifocal.interop.load import load
from bifocal.pretrained import Pretrained

FAULTS = (BifocalError, OSError, RuntimeError, ValueError, LookupError, MemoryError)
"""What may befall one cell without ending the suite: bad data, a full device, a damaged model."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a suite runs: records go to `out`, relative data paths start at `root`."""

    out: Path
    root: Path
    device: torch.device


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model of the suite, by the name of its entry, and who it is."""

    name: str
    pretrained: Pretrained
    identity: ModelIdentity


Told = Callable[[str], object]
"""Told what begins, in a line."""


def run_suite(config: SuiteConfig, place: Place, told: Told = lambda _: None) -> Iterator[Row]:
    """Yield one row a cell, as soon as it is measured or found.

    Raises:
        ConfigError: a record cannot be written.
    """
    _check_names(config)
    for name, entry in config.models.items():
        told(f"loading {name}")
        try:
            pretrained = as_read_by(load(entry.source or name, place.device), config.protocol)
            loaded = Loaded(name, pretrained, identify_model(pretrained, entry.source or name))
        except FAULTS as error:
            for data in config.data:
                yield failed_row(config, data, name, "", error)
            continue
        for data in config.data:
            yield from _rows_of(config, place, loaded, data, told)


def _rows_of(
    config: SuiteConfig,
    place: Place,
    loaded: Loaded,
    data: str,
    told: Told,
) -> Iterator[Row]:
    """Yield the rows of one model on one data set."""
    model, entry = loaded.name, config.data[data]
    size = loaded.pretrained.preprocess.image_size
    reading = Reading(
        root=place.root, classes=entry.classes, image_size=size, multi_label=entry.multi_label
    )
    try:
        test = open_split(entry.test, reading, "test")
        tasks = entry.tasks or _allowed(config, entry, test)
    except FAULTS as error:
        yield failed_row(config, data, model, "", error)
        return
    for task in tasks:
        told(f"{task} of {model} on {data}")
        path = place.out / "records" / file_name(data, model, task)
        try:
            opened = {"test": test} | _others(entry, reading, task)
            cell = _cell(config, data, task)
            kept = Kept(place.out / "features", config.threads, told)
            kept = kept if config.keep_features else None
            record, reused = _find(cell, loaded, opened, path, kept)
        except FAULTS as error:
            yield failed_row(config, data, model, task, error)
            continue
        if not reused:
            write_record(record, path)
        yield row_of(config, data, model, record, path, reused)


def _find(
    cell: Cell,
    loaded: Loaded,
    opened: Mapping[str, Opened],
    path: Path,
    kept: Kept | None,
) -> tuple[Record, bool]:
    """Return the record of a cell, and whether it was there already."""
    pretrained = loaded.pretrained
    origin = origin_of(cell, pretrained, loaded.identity, opened)
    key = _key(cell, origin, opened)
    if path.exists():
        try:
            record = read_record(path)
        except DataError:
            pass  # A record that was cut off, or is of an older format, is made again.
        else:
            if record.settings.get("cell") == key:
                return record, True
    return measure(cell, pretrained, opened, origin, {"cell": key}, kept), False


def _key(cell: Cell, origin: Origin, opened: Mapping[str, Opened]) -> str:
    """Return the hash of all that decides a cell; names, and the number of threads, do not."""
    model, asked = asdict(origin.model), asdict(cell)
    del model["name"], asked["limit"], asked["threads"]
    asked["templates"] = prompts_of(cell, opened["test"]) if cell.task == ZERO_SHOT else ()
    data = {name: asdict(one.identity(cell.limit)) for name, one in opened.items()}
    for one in data.values():
        del one["spec"]
    stamps = {name: list(one.stamps()) for name, one in opened.items()}
    ignored = ("threads", *data)
    settings = {name: value for name, value in origin.settings.items() if name not in ignored}
    return fingerprint([model, data, stamps, asked, settings])


def _cell(config: SuiteConfig, data: str, task: str) -> Cell:
    entry = config.data[data]
    return Cell(
        task=task,
        protocol=config.protocol,
        templates=entry.templates if task == ZERO_SHOT else (),
        limit=entry.limit or config.limit,
        seed=config.seed,
        threads=config.threads,
        probe=config.probe.model_dump(mode="json") if task == LINEAR_PROBE else {},
    )


def _allowed(config: SuiteConfig, entry: DataEntry, test: Opened) -> tuple[str, ...]:
    """Return those of the suite's tasks that the data can be used for."""
    labelled = bool(test.source.class_names)
    possible = [ZERO_SHOT] if labelled else [RETRIEVAL]
    if labelled and entry.train and not test.multi_label:
        possible.append(LINEAR_PROBE)
    found = tuple(task for task in config.tasks if task in possible)
    if not found:
        raise ConfigError(
            f"none of the tasks {', '.join(config.tasks)} is for these data, which have "
            f"{'classes' if labelled else 'captions'}: linear_probe needs classes and `train`"
        )
    return found


def _others(entry: DataEntry, reading: Reading, task: str) -> dict[str, Opened]:
    """Return what a linear probe reads beside the test pictures."""
    if task != LINEAR_PROBE:
        return {}
    if not entry.train:
        raise ConfigError("a linear probe learns from `train`, which this data set does not name")
    found = {"train": open_split(entry.train, reading, "train")}
    if entry.validation:
        found["validation"] = open_split(entry.validation, reading, "val")
    return found


def _check_names(config: SuiteConfig) -> None:
    """Raise ConfigError for a template that no name can stand in, before an hour has passed."""
    for name, entry in config.data.items():
        for template in entry.templates or PHOTO:
            if "{}" not in template and "{c}" not in template:
                raise ConfigError(f"data.{name}: the template '{template}' has no place for a name")
