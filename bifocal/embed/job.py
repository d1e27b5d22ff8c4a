"""What is to be embedded and how: everything that decides the bits of the result.

The folder keeps it, so that the same command goes on where it was stopped and any other command
is refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from bifocal.data.sample import Source
from bifocal.errors import CheckpointError, ConfigError, DataError
from bifocal.files import write_atomically
from bifocal.identity import identify_model, unlike
from bifocal.precision import Precision
from bifocal.pretrained import Pretrained
from bifocal.settings import Settings

FORMAT = "bifocal.embedded/1"
BLOCK = 2048
"""Samples that are kept or lost together when the work is killed, to the next whole batch."""

What = Literal["images", "texts", "both"]
Kind = Literal["projected", "penultimate"]
StoredDtype = Literal["float32", "float16"]
Description = dict[str, Any]


class Names(Settings):
    """What the model and the data were asked for as; they decide nothing."""

    model: str = ""
    data: str = ""


class Job(Settings):
    """What is embedded, and how."""

    what: What = "images"
    dtype: StoredDtype = "float32"
    """Of the matrices on disk."""
    kind: Kind = "projected"
    """Of image features: those of the shared space, of unit norm, or those before the projection
    (paper appendix A.3), for a classifier."""
    precision: Precision = "float32"
    """In which the towers compute."""
    batch_size: PositiveInt = 128
    """Pictures or texts that a tower reads at once; another size may change last bits."""
    limit: PositiveInt | None = None
    """Samples from the first; all if None."""
    hashes: bool = False
    """Also keep a perceptual hash and a grey thumbnail of each picture."""
    max_bad: float = Field(default=0.1, ge=0, le=1)
    """Largest share of samples that may be unreadable before the work is stopped."""
    names: Names = Names()

    def samples(self, source: Source) -> int:
        """Return how many samples of a source are embedded."""
        return min(len(source), self.limit or len(source))

    @property
    def block(self) -> int:
        """Samples a block: a whole number of batches."""
        return math.ceil(BLOCK / self.batch_size) * self.batch_size

    def check(self, source: Source) -> None:
        """Raise unless the source can give what is asked for.

        Raises:
            ConfigError: the settings do not go together.
            DataError: the source is empty.
        """
        if self.what == "texts" and (self.kind != "projected" or self.hashes):
            raise ConfigError("kind and hashes are of pictures: with what=texts leave both out")
        if not len(source):
            raise DataError("the source has no samples: there is nothing to embed")

    def describe(self, pretrained: Pretrained, source: Source) -> Description:
        """Return all that decides the result, as JSON: model, data, settings, kind of device."""
        settings = self.model_dump(mode="json", exclude={"limit", "max_bad", "names"})
        return {
            "format": FORMAT,
            "model": asdict(identify_model(pretrained, self.names.model)),
            "data": {
                "name": self.names.data,
                "identity": source.identity,
                "samples": self.samples(source),
                "class_names": list(source.class_names),
            },
            "settings": settings,
            "device": pretrained.device.type,
        }


def refuse_other(folder: Path, found: Description, asked: Description) -> None:
    """Raise CheckpointError unless a folder's work is the one that is asked for."""
    kept = {key: found.get(key) for key in asked}
    faults = unlike(kept, asked)
    if faults:
        raise CheckpointError(
            f"{folder} holds other features: {'; '.join(faults[:4])}. Give another folder, or "
            "remove this one"
        )


def write_json(path: Path, table: Description) -> None:
    """Write a table as JSON, whole or not at all."""
    write_atomically(path, (json.dumps(table, indent=2) + "\n").encode())


def read_json(path: Path) -> Description | None:
    """Return the table that `write_json` wrote; None if there is none.

    Raises:
        CheckpointError: the file is something else.
    """
    try:
        table = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise CheckpointError(f"{path} does not belong to embedded features ({FORMAT})")
    return table
