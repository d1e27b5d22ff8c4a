"""Tar shards as a random-access source (the webdataset layout).

A sample is the members that share a name up to its first dot: one picture and its captions or
label. Shards are indexed once; afterwards a shard is opened, and its index loaded, when one of its
samples is asked for. Pictures and texts are read when asked for.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bifocal.data.archive import Reader
from bifocal.data.archives import Archives, Folders
from bifocal.data.captions import CaptionReader
from bifocal.data.catalog import Catalog, Scanned
from bifocal.data.pairing import PICTURES, Parts
from bifocal.data.sample import Sample
from bifocal.errors import DataError

LOADED_SAMPLES = 1_000_000
"""Samples whose places are held in memory, at some fifty bytes each."""
MAX_TEXT = 1 << 22
"""Bytes of the longest caption file that is read."""
SHOWN = 5

_log = logging.getLogger(__name__)


class ShardSource:
    """Samples of tar shards, in the order of the paths and of the archives.

    What the shards hold that no sample can be made of is counted in `losses` and told once, as a
    warning of the `logging` module.

    Args:
        paths: the shards.
        captions: reads what lies beside the pictures.
        archives: where the shards are; by default, files of this machine.

    Attributes:
        losses: what was lost, by shard and reason.

    Raises:
        DataError: a shard cannot be opened, or none holds a picture with a caption or label.
    """

    def __init__(
        self, paths: Sequence[Path], captions: CaptionReader, archives: Archives | None = None
    ) -> None:
        self._captions = captions
        self.class_names = captions.class_names
        self._paths = tuple(path.absolute() for path in paths)
        self._archives = archives or Folders()
        known = Scanned if captions.multi_label else Catalog
        self._catalog = known(self._paths, self._archives)
        self.shard_sizes = tuple(entry.samples for entry in self._catalog.entries)
        self._ends = list(itertools.accumulate(self.shard_sizes))
        self.identity = self._identity()
        self.losses = self._catalog.losses
        if not len(self):
            shown = ", ".join(path.name for path in paths[:3])
            raise DataError(
                f"no pair in {len(paths)} shard(s) ({shown}): a sample is NAME.jpg (.png, .webp) "
                f"beside NAME.txt, NAME.json with captions, or NAME.cls{self._describe_losses()}"
            )
        if self.losses:
            _log.warning("the shards are not whole:%s", self._describe_losses())
        loaded = LOADED_SAMPLES * len(paths) // len(self)
        self._reader = lru_cache(self._archives.most_open)(self._open)
        self._index = lru_cache(max(16, loaded))(self._catalog.index)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            DataError: its caption or bytes are damaged.
        """
        reader, key, parts = self._find(index)
        texts = self._texts(reader, parts)
        captions, label = self._captions.read(texts)
        if self._captions.multi_label:
            self._captions.labels(texts)  # a picture whose labels are damaged is not read either
        picture = next(member for suffix, member in parts.items() if suffix in PICTURES)
        return Sample(key, reader.read(picture), captions, label)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`.

        Raises:
            DataError: they are damaged.
        """
        reader, _, parts = self._find(index)
        return self._captions.read(self._texts(reader, parts))[0]

    def labels(self, index: int) -> tuple[int, ...]:
        """Return all classes that the picture of sample `index` is of, where it may be of several.

        Raises:
            DataError: they are damaged.
        """
        reader, _, parts = self._find(index)
        return self._captions.labels(self._texts(reader, parts))

    def place(self, index: int) -> str:
        """Return the name of the shard that holds sample `index`."""
        return self._paths[bisect.bisect_right(self._ends, index)].name

    @property
    def stamps(self) -> tuple[str, ...]:
        """Return name, size and time of change of each shard, which tell an edited one."""
        states = zip(self._paths, self._catalog.entries, strict=True)
        return tuple(f"{path.name} {one.stamp.size} {one.stamp.mtime_ns}" for path, one in states)

    def expect(self, shards: Sequence[int]) -> None:
        """Be told which shards are read next, in order."""
        self._archives.expect([self._paths[shard] for shard in shards])

    def _find(self, index: int) -> tuple[Reader, str, Parts]:
        shard = bisect.bisect_right(self._ends, index)
        first = self._ends[shard] - self.shard_sizes[shard]
        return self._reader(shard), *self._index(shard).sample(index - first)

    def _open(self, shard: int) -> Reader:
        return self._archives.open(self._paths[shard], self._catalog.entries[shard].stamp)

    def _identity(self) -> str:
        # Without classes templates say nothing.
        templates = self._captions.templates if self.class_names else ()
        read_as = (self.class_names, templates, *("multi-label",) * self._captions.multi_label)
        digest = hashlib.sha256(repr(read_as).encode())
        for path, entry in zip(self._paths, self._catalog.entries, strict=True):
            digest.update(f"{path.name}/{entry.samples}/{entry.digest};".encode(errors="replace"))
        return digest.hexdigest()

    def _describe_losses(self) -> str:
        rows = [f"\n  {n}x {reason} in {name}" for (name, reason), n in self.losses.most_common()]
        more = f"\n  and {len(rows) - SHOWN} more kinds" if len(rows) > SHOWN else ""
        return "".join(rows[:SHOWN]) + more

    def _texts(self, reader: Reader, parts: Parts) -> dict[str, bytes]:
        texts: dict[str, bytes] = {}
        for suffix, member in parts.items():
            if suffix in self._captions.suffixes:
                if member.size > MAX_TEXT:
                    raise DataError("caption file too long")
                texts[suffix] = reader.read(member)
        return texts
