"""A result with all that decides it: model, data, protocol, settings, and every example's outcome.

Two records can be compared (`compare`) and told apart (`explain`) long after both models are gone.
A record is FILE.json and, beside it, FILE.safetensors with the outcomes; the first holds the hash
of the second. Names in `outcomes`:

    METRIC         the figure of each example; the metric is their mean
    METRIC.class   class of each example, where the metric is a mean over classes of their means
    METRIC.unit    source index of the picture that each example belongs to; examples of a picture
                   (its captions) are drawn together
    unit           the same for every metric without its own

Knows figures and where they came from; knows nothing of how they are measured.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from bifocal.errors import ConfigError, DataError
from bifocal.evaluate.statistics import Interval
from bifocal.files import write_atomically
from bifocal.identity import JSON, DataIdentity, ModelIdentity
from bifocal.settings import Settings, build

FORMAT = "bifocal.record/1"
UNIT, CLASS = "unit", "class"


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation of one model on one set of data."""

    task: str
    protocol: str
    model: ModelIdentity
    data: DataIdentity
    settings: Mapping[str, JSON]
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    outcomes: Mapping[str, Tensor] = field(default_factory=dict)

    def units(self, metric: str) -> Tensor | None:
        """Return the picture that each example of a metric belongs to, if that is recorded."""
        own = self.outcomes.get(f"{metric}.{UNIT}", self.outcomes.get(UNIT))
        fits = own is not None and len(own) == len(self.outcomes[metric])
        return own if fits else None


class _Outcomes(Settings):
    file: str
    sha256: str


class _Stored(Settings):
    """What the JSON of a record holds."""

    format: str
    task: str
    protocol: str
    model: ModelIdentity
    data: DataIdentity
    settings: dict[str, Any]
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    outcomes: _Outcomes | None


def write_record(record: Record, path: Path) -> None:
    """Write a record as JSON to `path`, and its outcomes beside it.

    A reader finds the old record, the new one, or is told that the outcomes are not the JSON's.

    Raises:
        ConfigError: the path cannot be written, or ends in .safetensors.
    """
    beside = _outcomes_of(path)
    stored: dict[str, JSON] = {
        "format": FORMAT,
        "task": record.task,
        "protocol": record.protocol,
        "model": asdict(record.model),
        "data": asdict(record.data),
        "settings": dict(record.settings),
        # JSON has no word for what is not a number.
        "metrics": {k: v if math.isfinite(v) else None for k, v in record.metrics.items()},
        "intervals": {name: asdict(one) for name, one in record.intervals.items()},
        "outcomes": None,
    }
    try:
        if record.outcomes:
            tensors = {k: v.detach().cpu().clone() for k, v in record.outcomes.items()}
            data = safetensors.torch.save(tensors, metadata={"format": FORMAT})
            sha256 = hashlib.sha256(data).hexdigest()
            stored["outcomes"] = {"file": beside.name, "sha256": sha256}
            write_atomically(beside, data)
        text = json.dumps(stored, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(path, (text + "\n").encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise ConfigError(f"cannot write the record {path}: {error.strerror}") from None


def read_record(path: Path) -> Record:
    """Return the record in a file that `write_record` wrote.

    Raises:
        DataError: there is none, it is damaged or of another format, or its outcomes are missing.
    """
    stored = _read_json(path)
    outcomes: dict[str, Tensor] = {}
    if stored.outcomes is not None:
        outcomes = _read_outcomes(path, stored.outcomes)
    metrics = {k: math.nan if v is None else v for k, v in stored.metrics.items()}
    return Record(
        stored.task,
        stored.protocol,
        stored.model,
        stored.data,
        stored.settings,
        metrics,
        stored.intervals,
        outcomes,
    )


def _outcomes_of(path: Path) -> Path:
    beside = path.with_suffix(".safetensors")
    if beside == path or not path.name:
        raise ConfigError(f"a record is a JSON file, got '{path}': name it as result.json")
    return beside


def _read_json(path: Path) -> _Stored:
    how = "give a file that `bifocal evaluate` wrote as a record"
    try:
        table = json.loads(path.read_text("utf-8", "surrogatepass"))
    except OSError as error:
        raise DataError(f"cannot read the record {path}: {error.strerror}; {how}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is no record: it is not JSON; {how}") from None
    found = table.get("format") if isinstance(table, dict) else None
    if found != FORMAT:
        got = f"the format {found!r}" if found is not None else "no 'format'"
        raise DataError(f"{path} is no record: it has {got}, expected {FORMAT!r}; {how}")
    try:
        return build(_Stored, table, str(path))
    except ConfigError as error:
        raise DataError(f"the record is damaged, measure again: {error}") from None


def _read_outcomes(path: Path, stored: _Outcomes) -> dict[str, Tensor]:
    beside = path.parent / Path(stored.file).name
    try:
        data = beside.read_bytes()
        if hashlib.sha256(data).hexdigest() == stored.sha256:
            return safetensors.torch.load(data)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read {beside}, the outcomes of {path}: {error}; keep both files together"
        ) from None
    raise DataError(f"{beside} does not hold the outcomes of {path}: measure again")
