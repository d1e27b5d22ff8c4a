"""A folder of features, as it is read.

Matrices are memory-mapped: opening costs nothing, and a row is read when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8, UInt64
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed.columns import LINES, file_name
from bifocal.embed.job import Description, Kind, read_json
from bifocal.embed.neighbours import nearest
from bifocal.errors import CheckpointError, ConfigError
from bifocal.identity import identify_model, unlike
from bifocal.pretrained import Pretrained

META = "meta.json"


@dataclass(frozen=True)
class Embedded:
    """Features of a source, and what is known of each row.

    Attributes:
        folder: where they are.
        meta: model, data and settings that made them; counts.
    """

    folder: Path
    meta: Description

    @classmethod
    def open(cls, folder: str | Path) -> Embedded:
        """Return the features in a folder.

        Raises:
            CheckpointError: there are none, they are not finished, or a file is damaged.
        """
        folder = Path(folder)
        meta = read_json(folder / META)
        if meta is None:
            raise CheckpointError(
                f"no finished features in {folder}: run `bifocal embed MODEL SOURCE {folder}`, "
                "again if it was stopped"
            )
        found = cls(folder, meta)
        for name, count in meta["files"].items():
            if (folder / file_name(name)).is_file() and found._length(name) == count:
                continue
            raise CheckpointError(
                f"{folder / file_name(name)} is missing or is not what was written: remove "
                f"{folder} and embed again"
            )
        return found

    def __len__(self) -> int:
        return int(self.meta["rows"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """What labels mean; empty if there are none."""
        return tuple(self.meta["data"]["class_names"])

    @property
    def skipped(self) -> dict[str, int]:
        """How many samples were left out, by reason."""
        return dict(self.meta["skipped"])

    @cached_property
    def image_features(self) -> Float[np.ndarray, "rows dim"]:
        """Features of pictures, memory-mapped."""
        return self._array("images", "images or both")

    @cached_property
    def text_features(self) -> Float[np.ndarray, "texts embed_dim"]:
        """Features of captions, memory-mapped."""
        return self._array("texts", "texts or both")

    @cached_property
    def owners(self) -> Int64[np.ndarray, " texts"]:
        """Row of the picture, or sample, that each caption describes; ascending."""
        return self._array("owners", "texts or both")

    @cached_property
    def labels(self) -> Int64[np.ndarray, " rows"]:
        """Class of each row, or -1."""
        return self._array("labels", "images or both")

    @cached_property
    def indices(self) -> Int64[np.ndarray, " rows"]:
        """Source index of each row; ascending."""
        return self._array("indices", "images")

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, " rows"]:
        """Perceptual hash of each picture."""
        return self._look("hashes")

    @cached_property
    def thumbnails(self) -> UInt8[np.ndarray, "rows side side"]:
        """Each picture in grey, shrunk: what `data.perceptual.resemblance` compares."""
        return self._look("thumbnails")

    def keys(self, rows: Iterable[int]) -> list[str]:
        """Return the keys of rows; where only texts were embedded, the source index in digits."""
        return self._texts("keys", "key_ends", rows)

    def captions(self, rows: Iterable[int]) -> list[str]:
        """Return the captions of rows of `text_features`."""
        return self._texts("captions", "caption_ends", rows)

    def nearest(
        self, queries: Float[Tensor, "queries dim"], k: int = 10, *, texts: bool = False
    ) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
        """Return the largest inner products with pictures, or texts, and their rows; exact."""
        return nearest(queries, self.text_features if texts else self.image_features, k)

    def check(
        self,
        pretrained: Pretrained,
        source: Source,
        *,
        kind: Kind = "projected",
        limit: int | None = None,
    ) -> int:
        """Return how many rows the first `limit` samples of a source have here.

        Raises:
            CheckpointError: these are features of another model, of pictures prepared in another
                way, of other data, or of another kind.
        """
        found = {
            "model": self.meta["model"],
            "data": {"identity": self.meta["data"]["identity"]},
            "kind": self.meta["settings"]["kind"],
        }
        asked = {
            "model": asdict(identify_model(pretrained, "")),
            "data": {"identity": source.identity},
            "kind": kind,
        }
        faults = unlike(found, asked)
        wanted, there = min(len(source), limit or len(source)), self.meta["data"]["samples"]
        if wanted > there:
            faults.append(f"{there:,} samples instead of {wanted:,}")
        if faults:
            raise CheckpointError(
                f"the features in {self.folder} are not of this model and data: "
                f"{'; '.join(faults[:4])}. They were made by '{self.meta['model']['name']}' of "
                f"'{self.meta['data']['name']}': embed again, or leave the features out"
            )
        return int(np.searchsorted(self.indices, wanted))

    def _look(self, name: str) -> np.ndarray:
        if name not in self.meta["files"]:
            raise ConfigError(
                f"{self.folder} has no {name}: remove it and embed again with --hashes"
            )
        return self._array(name, "images")

    def _length(self, name: str) -> int:
        if name in LINES:
            return (self.folder / file_name(name)).stat().st_size
        return len(self._array(name, ""))

    def _array(self, name: str, what: str) -> np.ndarray:
        if name not in self.meta["files"]:
            made = self.meta["settings"]["what"]
            raise ConfigError(f"{self.folder} was made with what={made}: embed with what={what}")
        path = self.folder / file_name(name)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}; remove {self.folder} and embed again"
            ) from None

    def _texts(self, name: str, ends_name: str, rows: Iterable[int]) -> list[str]:
        ends = self._array(ends_name, "texts or both")
        found: list[str] = []
        with (self.folder / file_name(name)).open("rb") as file:
            for row in rows:
                start = int(ends[row - 1]) if row else 0
                file.seek(start)
                found.append(json.loads(file.read(int(ends[row]) - start)))
        return found
