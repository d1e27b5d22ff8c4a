"""What the verbs of `bifocal evaluate` share: opening a source, figures as JSON, intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bifocal.data.sources import Reading
from bifocal.errors import ConfigError
from bifocal.evaluate.statistics import Interval
from bifocal.files import json_of, write_atomically
from bifocal.pretrained import Pretrained
from bifocal.train.recipe import DATA_ROOT


def reading(pretrained: Pretrained, classes: str = "", *, multi_label: bool = False) -> Reading:
    """Return how sources are read for a model: the data root, its picture size, class names."""
    return Reading(
        root=Path(os.environ.get(DATA_ROOT, "")),
        classes=str(find_file(classes).absolute()) if classes else "",
        image_size=pretrained.preprocess.image_size,
        multi_label=multi_label,
    )


def find_file(path: str) -> Path:
    """Return the file that a person means: from here, or else from the data's root."""
    here = Path(path).expanduser()
    return here if here.exists() else Path(os.environ.get(DATA_ROOT, "")) / here


def bounds(interval: Interval) -> str:
    """Return an interval as people read it: "70.1 – 74.9 %"."""
    return f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"


def by_name(intervals: Mapping[str, Interval]) -> dict[str, dict[str, object]]:
    """Return intervals as JSON tables."""
    return {name: asdict(interval) for name, interval in intervals.items()}


def write_figures(figures: Mapping[str, object], output: Path) -> None:
    """Write figures as JSON, whole or not at all; what is no finite number is null.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write_atomically(output, (json_of(figures, indent=2) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from None
