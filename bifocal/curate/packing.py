"""Sources to tar shards that can be trained on: the same command, the same bytes, any time.

Shard follows shard, so that a record after each says where to go on: at most one shard of work is
lost, however the process ended. Knows the order of work and its record; what becomes of a sample
is `encoding`'s.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np

from bifocal.curate.crew import Joined, Opening, Positions, in_order
from bifocal.curate.encoding import PICTURE_DIGITS, Encoding, Packed, pack_sample
from bifocal.curate.record import Record, begin, held
from bifocal.curate.shard_writer import ShardWriter, keep_index, names
from bifocal.errors import ConfigError, DataError
from bifocal.files import write_atomically

Dedup = Literal["none", "pairs", "pictures"]
Told = Callable[[int, int, int], None]
"""Takes the samples read, the pairs kept so far, and the samples of all."""

CLASSES = "classes.json"


@dataclass(frozen=True, slots=True)
class Packing:
    """What shards are to hold.

    Attributes:
        encoding: how pictures are kept.
        pairs: of a shard, at most.
        bytes: of a shard's files; a shard that has as many is closed.
        shuffle: seed of the order; None keeps that of the sources.
        dedup: which samples are left out for an earlier one: of equal picture and captions, or of
            equal picture whatever the captions.

    Raises:
        ConfigError: a shard would hold nothing.
    """

    encoding: Encoding = field(default_factory=Encoding)
    pairs: int = 10_000
    bytes: int = 1_000_000_000
    shuffle: int | None = None
    dedup: Dedup = "none"

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.bytes < 1:
            raise ConfigError(
                f"shards of {self.pairs} pairs and {self.bytes} bytes: give at least 1 of each"
            )
        if self.shuffle is not None and self.shuffle < 0:
            raise ConfigError(f"a seed of {self.shuffle}: give 0 or more")

    def order(self, samples: int) -> Positions:
        """Return the positions of samples in the order in which they are packed."""
        if self.shuffle is None:
            return range(samples)
        return np.random.default_rng(self.shuffle).permutation(samples)


@dataclass(frozen=True, slots=True)
class Refused:
    """A sample that cannot be packed: where it lies, and why."""

    place: str
    reason: str


def pack(
    opening: Opening, out: Path, packing: Packing, *, workers: int = 1, told: Told | None = None
) -> Record:
    """Pack the samples of sources into `out/00000.tar`, `out/00001.tar`, …

    An interrupted call goes on where it stopped when it is made again; a finished one is found
    finished. The bytes of the shards depend on the samples and on `packing`, not on `workers`.

    Args:
        opening: the sources, taken one behind the other.
        out: a folder of its own.
        packing: what the shards hold.
        workers: processes that decode and encode.
        told: hears how far it is.

    Returns:
        what was packed and what was left out, as `out/pack.json` has it.

    Raises:
        ConfigError: the sources have different classes, or `out` holds something else.
        DataError: no sample can be packed, or the folder cannot be written.
    """
    joined = opening.open()
    classes = _classes(joined, opening)
    settings = {**asdict(packing), "sources": [source.identity for source in joined.sources]}
    try:
        with held(out):
            record = begin(out, settings)
            if record.complete:
                return record
            if classes:
                _write_json(out / CLASSES, list(classes))
            _Pack(opening, joined, out, packing, record).run(workers, told or _untold)
            if not record.pairs:
                raise DataError(f"no sample of {len(joined)} can be packed:\n{record.describe()}")
            keep_index([out / name for name in record.shards])
            record.finish(
                out, sum((joined.losses(n) for n in range(len(joined.sources))), Counter())
            )
            return record
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror or error}; the same command goes on where it "
            "stopped"
        ) from None


@dataclass(frozen=True, slots=True)
class _Pack:
    """One call's work from where the record stands."""

    opening: Opening
    joined: Joined
    out: Path
    packing: Packing
    record: Record

    def run(self, workers: int, told: Told) -> None:
        order = self.packing.order(len(self.joined))
        seen = set(self._packed()) if self.packing.dedup != "none" else None
        writer: ShardWriter | None = None
        positions = order[self.record.position :]
        task = partial(_pack_samples, encoding=self.packing.encoding)
        outcomes = in_order(task, self.opening, self.joined, positions, workers)
        try:
            for position, outcome in enumerate(outcomes, self.record.position + 1):
                if self._is_kept(outcome, seen):
                    writer = writer or ShardWriter(self.out / self.record.next_shard)
                    writer.add(outcome)
                if writer and self._is_full(writer):
                    self.record.add(writer.samples, writer.finish(), position)
                    self.record.save(self.out)
                    writer = None
                told(
                    position,
                    self.record.pairs + (writer.samples if writer else 0),
                    len(self.joined),
                )
            if writer:
                self.record.add(writer.samples, writer.finish(), len(self.joined))
                self.record.save(self.out)
                writer = None
            self.record.position = len(self.joined)
        finally:
            outcomes.close()
            if writer:
                writer.abandon()

    def _is_kept(self, outcome: Packed | Refused, seen: set[str] | None) -> TypeGuard[Packed]:
        if isinstance(outcome, Refused):
            self.record.left_out[outcome.place, outcome.reason] += 1
            return False
        if seen is None:
            return True
        known = self._identity(outcome.name)
        if known in seen:
            self.record.duplicates += 1
            return False
        seen.add(known)
        return True

    def _is_full(self, writer: ShardWriter) -> bool:
        return writer.samples >= self.packing.pairs or writer.size >= self.packing.bytes

    def _packed(self) -> Iterator[str]:
        """Yield what tells the samples of finished shards from others."""
        for shard in self.record.shards:
            yield from map(self._identity, names(self.out / shard))

    def _identity(self, name: str) -> str:
        return name[:PICTURE_DIGITS] if self.packing.dedup == "pictures" else name


def _pack_samples(
    joined: Joined, positions: Positions, encoding: Encoding
) -> list[Packed | Refused]:
    outcomes: list[Packed | Refused] = []
    for position in positions:
        try:
            outcomes.append(pack_sample(joined.read(int(position)), encoding))
        except DataError as error:
            outcomes.append(Refused(joined.place(int(position)), str(error)))
    return outcomes


def _classes(joined: Joined, opening: Opening) -> tuple[str, ...]:
    first = joined.sources[0].class_names
    for spec, source in zip(opening.specs, joined.sources, strict=True):
        if source.class_names != first:
            raise ConfigError(
                f"{opening.specs[0]} has {len(first)} classes and {spec} has "
                f"{len(source.class_names)}, or others: a label would mean two things; pack them "
                "into two folders"
            )
    return first


def _write_json(path: Path, content: object) -> None:
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _untold(read: int, kept: int, total: int) -> None:
    """Tell nobody."""
