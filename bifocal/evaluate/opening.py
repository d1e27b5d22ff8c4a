"""A split of a data set, and a model, as an evaluation's protocol reads them.

CLIP_benchmark's folders hold several splits and templates; any other text of a setting means what
`data.sources` says, and is one split by itself. Under CLIP_benchmark's protocol Pillow resizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bifocal.data.benchmark_folder import is_benchmark_folder, open_benchmark_folder
from bifocal.data.sample import Source
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source
from bifocal.errors import ConfigError
from bifocal.evaluate.protocol import CLIP_BENCHMARK
from bifocal.identity import DataIdentity, identify_data
from bifocal.inputs.pillow import PillowPreprocess
from bifocal.pretrained import Pretrained

Labels = Callable[[int], tuple[int, ...]]
"""All classes that the picture of a sample is of, by the sample's place in its source."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, with what its folder says beside it.

    Attributes:
        spec: as it was asked for.
        source: what was meant.
        templates: those that lie beside it, if any.
        split: of several; None where there is one alone.
        labels: all classes of a sample's picture, where pictures may be of several; else None.
    """

    spec: str
    source: Source
    templates: tuple[str, ...] = ()
    split: str | None = None
    labels: Labels | None = None

    @property
    def multi_label(self) -> bool:
        """Whether pictures may be of several classes."""
        return self.labels is not None

    def identity(self, limit: int | None) -> DataIdentity:
        """Return the identity of the first `limit` samples, or of all."""
        return identify_data(self.source, self.spec, limit=limit, split=self.split)

    def stamps(self) -> tuple[str, ...]:
        """Return what tells shards that were edited in place, where the source can say."""
        return self.source.stamps if isinstance(self.source, ShardSource) else ()


def open_split(spec: str, reading: Reading, split: str = "test") -> Opened:
    """Return the source that `spec` names; of a folder of CLIP_benchmark's, the given split.

    Raises:
        ConfigError: the kind or a setting is wrong, or these data cannot be multi-label.
        DataError: nothing is there, or nothing in it can be used.
    """
    path = reading.root / Path(spec).expanduser()
    if path.is_dir() and is_benchmark_folder(path):
        found = open_benchmark_folder(path, split, multi_label=reading.multi_label)
        labels = found.source.labels if found.multi_label else None
        return Opened(spec, found.source, found.templates, found.split, labels)
    source = open_source(spec, reading)
    if not reading.multi_label:
        return Opened(spec, source)
    if not isinstance(source, ShardSource):
        raise ConfigError(
            f"several classes a picture are read from tar shards, and {spec} is none: write "
            "NAME.jpg beside NAME.cls with the numbers of its classes, as in '3 17'"
        )
    return Opened(spec, source, labels=source.labels)


def as_read_by(pretrained: Pretrained, protocol: str) -> Pretrained:
    """Return the model with the preprocessing that a protocol asks for."""
    if protocol != CLIP_BENCHMARK.name:
        return pretrained
    plain = pretrained.preprocess.model_dump()
    return replace(pretrained, preprocess=PillowPreprocess(**plain))
