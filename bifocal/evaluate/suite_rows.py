"""The table of a suite: rows whose fields users of CLIP_benchmark know, as JSON and CSV.

    dataset, model, pretrained, task, language, metrics    as `clip_benchmark eval` writes them
    model_fullname                                         as `clip_benchmark build` adds it

Beside these: the protocol, the bounds of every interval, and the error of a cell that failed. Names
of metrics are CLIP_benchmark's under every protocol, which the row names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bifocal.errors import BifocalError, ConfigError
from bifocal.evaluate.record import Record
from bifocal.evaluate.results import LINEAR_PROBE, RETRIEVAL, ZERO_SHOT
from bifocal.evaluate.statistics import Interval
from bifocal.evaluate.suite_config import SuiteConfig
from bifocal.files import write_atomically
from bifocal.identity import fingerprint

FORMAT = "bifocal.suite/1"
TASKS = {
    ZERO_SHOT: "zeroshot_classification",
    RETRIEVAL: "zeroshot_retrieval",
    LINEAR_PROBE: "linear_probe",
}
LEADING = ("dataset", "model", "pretrained", "task", "language", "protocol", "model_fullname")
LAST = ("error", "record")

_CLASSIFICATION = {"top1": "acc1", "top5": "acc5"}
_PROBE = {
    "top1": "lp_acc1",
    "mean_per_class_recall": "lp_mean_per_class_recall",
}
_WAYS = {"image_to_text_": "text_retrieval_", "text_to_image_": "image_retrieval_"}


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of a suite: its figures, or why it has none."""

    dataset: str
    model: str
    pretrained: str
    task: str
    language: str
    protocol: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    error: str = ""
    record: str = ""
    """Path of the record."""
    reused: bool = False
    """Whether the record was there before."""

    @property
    def model_fullname(self) -> str:
        """Both names of the model, as CLIP_benchmark joins them."""
        return f"{self.model} {self.pretrained}"


def row_of(
    config: SuiteConfig, data: str, model: str, record: Record, path: Path, reused: bool
) -> Row:
    """Return the row of a record."""
    names = {name: known_name(record.task, name) for name in record.metrics}
    return Row(
        *_names(config, data, model, record.task, record.protocol),
        metrics={names[name]: value for name, value in record.metrics.items()},
        intervals={names[name]: one for name, one in record.intervals.items()},
        record=str(path),
        reused=reused,
    )


def failed_row(config: SuiteConfig, data: str, model: str, task: str, error: BaseException) -> Row:
    """Return the row of a cell that could not be measured."""
    # What bifocal says is whole; of what others say the kind is needed too.
    said = str(error) if isinstance(error, BifocalError) else f"{type(error).__name__}: {error}"
    return Row(*_names(config, data, model, task, config.protocol), error=said)


def known_name(task: str, metric: str) -> str:
    """Return CLIP_benchmark's name of a metric."""
    table = _PROBE if task == LINEAR_PROBE else _CLASSIFICATION
    for own, known in _WAYS.items():
        metric = metric.replace(own, known)
    return table.get(metric, metric)


def file_name(data: str, model: str, task: str) -> str:
    """Return the name of a cell's record; different cells have different ones."""
    plain = "--".join(re.sub(r"[^A-Za-z0-9._@+-]", "_", name)[:60] for name in (data, model))
    return f"{plain}--{task}-{fingerprint([data, model, task])[:8]}.json"


def write_table(rows: Sequence[Row], folder: Path) -> tuple[Path, Path]:
    """Write all rows as `suite.json` and `suite.csv`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    paths = folder / "suite.json", folder / "suite.csv"
    table = {"format": FORMAT, "rows": [_json(row) for row in rows]}
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_atomically(paths[0], text.encode("utf-8", "surrogatepass"))
        write_atomically(paths[1], _csv(rows).encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise ConfigError(f"cannot write the table to {folder}: {error.strerror}") from None
    return paths


def _names(
    config: SuiteConfig, data: str, model: str, task: str, protocol: str
) -> tuple[str, str, str, str, str, str]:
    entry = config.models[model]
    shown = entry.model or model, entry.pretrained or entry.source or model
    return data, *shown, TASKS.get(task, "any"), config.data[data].language, protocol


def _json(row: Row) -> dict[str, object]:
    found = {**asdict(row), "model_fullname": row.model_fullname}
    # JSON has no word for what is not a number.
    found["metrics"] = {k: v if math.isfinite(v) else None for k, v in row.metrics.items()}
    return found


def _csv(rows: Sequence[Row]) -> str:
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    bounded = {name for row in rows for name in row.intervals}
    columns: list[str] = []
    for name in metrics:
        columns += [name, f"{name}_low", f"{name}_high"] if name in bounded else [name]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*LEADING, *columns, *LAST], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line: dict[str, object] = {name: getattr(row, name) for name in (*LEADING, *LAST)}
        line |= row.metrics
        for name, one in row.intervals.items():
            line |= {f"{name}_low": one.low, f"{name}_high": one.high}
        writer.writerow(line)
    return text.getvalue()
