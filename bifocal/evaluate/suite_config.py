"""The settings of a suite: models, data sets, tasks and a protocol, from one TOML file.

    protocol = "clip_benchmark"          # or "paper", "plain"
    tasks = ["zero_shot", "retrieval"]   # by default every one that the data allow

    [models.small]
    source = "runs/small"                # whatever bifocal.load takes; else the name itself

    [data.cifar10]
    test = "cifar10/test-*.tar"          # or a folder of CLIP_benchmark's
    train = "cifar10/train-*.tar"        # for linear probes
    templates = ["a photo of a {c}."]

Knows what may be asked; knows nothing of how it is measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from bifocal.evaluate.results import LINEAR_PROBE, RETRIEVAL, ZERO_SHOT
from bifocal.settings import Settings

TaskName = Literal["zero_shot", "retrieval", "linear_probe"]


class ModelEntry(Settings):
    """A model of a suite."""

    source: str = ""
    """What `bifocal.load` takes; the entry's name if empty."""
    model: str = ""
    """Architecture, as the table shows it; the entry's name if empty."""
    pretrained: str = ""
    """Weights, as the table shows them; the source if empty."""


class DataEntry(Settings):
    """A data set of a suite."""

    test: str
    train: str = ""
    validation: str = ""
    classes: str = ""
    """JSON list of class names: by default classes.json beside the shards."""
    multi_label: bool = False
    """Whether pictures may be of several classes; CLIP_benchmark's folders say so themselves."""
    templates: tuple[str, ...] = ()
    """By default those beside the data, else "a photo of a {}."."""
    tasks: tuple[TaskName, ...] = ()
    """By default the suite's, as far as the data allow."""
    language: str = "en"
    limit: PositiveInt | None = None


class ProbeEntry(Settings):
    """Linear probes of a suite; all but `held_out` are read by clip_benchmark's protocol alone."""

    learning_rate: PositiveFloat = 0.1
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    held_out: float | None = Field(default=None, gt=0, lt=1)


class SuiteConfig(Settings):
    """What to measure."""

    models: dict[str, ModelEntry] = Field(min_length=1)
    data: dict[str, DataEntry] = Field(min_length=1)
    tasks: tuple[TaskName, ...] = (ZERO_SHOT, RETRIEVAL, LINEAR_PROBE)
    protocol: Literal["plain", "paper", "clip_benchmark"] = "clip_benchmark"
    limit: PositiveInt | None = None
    seed: NonNegativeInt = 0
    threads: PositiveInt = 2
    keep_features: bool = True
    """Whether features of pictures stay under the output folder, 4 bytes a number, so that each
    model reads each data set once; False computes them for every task."""
    probe: ProbeEntry = ProbeEntry()
