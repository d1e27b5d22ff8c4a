"""Tar shards as a random-access source (the webdataset layout).

A sample is the members that share a name up to its first dot: one picture and its captions or
label. Every shard is indexed by its headers when the source is made; pictures and texts are read
when asked for.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bifocal.data.captions import CaptionReader
from bifocal.data.sample import Sample
from bifocal.data.tar import Member, Reader, members
from bifocal.errors import DataError

PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
TEXTS = frozenset({"txt", "json", "cls"})

Parts = dict[str, Member]


class ShardSource:
    """Samples of tar shards, in the order of the paths and of the archives.

    Args:
        paths: the shards.
        captions: reads what lies beside the pictures.

    Raises:
        DataError: a shard cannot be opened, or none holds a picture with a caption or label.
    """

    def __init__(self, paths: Sequence[Path], captions: CaptionReader) -> None:
        self._captions = captions
        self.class_names = captions.class_names
        self._readers = [Reader(path) for path in paths]
        self._samples = [_samples(path) for path in paths]
        self._ends = list(itertools.accumulate(map(len, self._samples)))
        self.shard_sizes = tuple(map(len, self._samples))
        self.identity = self._identity(paths)
        if not len(self):
            shown = ", ".join(path.name for path in paths[:3])
            raise DataError(
                f"no pair in {len(paths)} shard(s) ({shown}): a sample is NAME.jpg (.png, .webp) "
                "beside NAME.txt, NAME.json with captions, or NAME.cls"
            )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: its caption or bytes are damaged.
        """
        reader, key, parts = self._find(index)
        captions, label = self._captions.read(_texts(reader, parts))
        picture = next(m for suffix, m in parts.items() if suffix in PICTURES)
        return Sample(key, reader.read(picture), captions, label)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`.

        Raises:
            DataError: they are damaged.
        """
        reader, _, parts = self._find(index)
        return self._captions.read(_texts(reader, parts))[0]

    def place(self, index: int) -> str:
        """Return the name of the shard that holds sample `index`."""
        return self._readers[bisect.bisect_right(self._ends, index)].path.name

    def _find(self, index: int) -> tuple[Reader, str, Parts]:
        shard = bisect.bisect_right(self._ends, index)
        first = self._ends[shard] - len(self._samples[shard])
        return self._readers[shard], *self._samples[shard][index - first]

    def _identity(self, paths: Sequence[Path]) -> str:
        digest = hashlib.sha256(repr((self.class_names, self._captions.templates)).encode())
        for path, samples in zip(paths, self._samples, strict=True):
            digest.update(f"{path.name}/{len(samples)}/{path.stat().st_size};".encode())
            for key, _ in samples:
                digest.update(key.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()


def _texts(reader: Reader, parts: Parts) -> dict[str, bytes]:
    return {suffix: reader.read(m) for suffix, m in parts.items() if suffix in TEXTS}


def _samples(path: Path) -> list[tuple[str, Parts]]:
    """Return (key, members by suffix) of each sample that has a picture and a text or label."""
    found: dict[str, Parts] = {}
    for member in members(path):
        name = PurePosixPath(member.name).name
        stem, _, suffix = name.partition(".")
        suffix = suffix.lower()
        if stem and suffix in PICTURES | TEXTS:
            key = member.name[: len(member.name) - len(name)] + stem
            found.setdefault(key, {}).setdefault(suffix, member)
    return [
        (key, parts)
        for key, parts in found.items()
        if PICTURES & parts.keys() and TEXTS & parts.keys()
    ]
