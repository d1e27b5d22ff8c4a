"""What a folder of shards says of how it was packed: under way, and when it is done.

`progress.json` is written after every shard and says where to go on, `pack.json` when all is done.
Knows the two files and the folder's lock; knows nothing of samples.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bifocal.data.shelf import BESIDE
from bifocal.errors import ConfigError, DataError
from bifocal.files import write_atomically

PROGRESS, DONE = "progress.json", "pack.json"
VERSION = "bifocal.pack/1"
_LOCK = "pack.lock"


@dataclass(slots=True)
class Record:
    """How far packing came.

    Attributes:
        settings: that decide what the shards hold, and the identities of the sources.
        shards: finished, by name: bytes of each.
        position: samples read up to the end of the last of them.
        pairs: in them.
        duplicates: samples left out because an earlier one is equal.
        left_out: samples that could not be packed, by place and reason.
        complete: whether all samples have been read.
    """

    settings: Mapping[str, Any]
    shards: dict[str, int] = field(default_factory=dict)
    position: int = 0
    pairs: int = 0
    duplicates: int = 0
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    complete: bool = False

    @property
    def next_shard(self) -> str:
        """Name of the shard to write next."""
        return f"{len(self.shards):05d}.tar"

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(self.shards.values())

    def add(self, samples: int, size: int, position: int) -> None:
        """Note a finished shard: its samples and bytes, and how many samples have been read."""
        self.shards[self.next_shard] = size
        self.pairs += samples
        self.position = position

    def save(self, out: Path) -> None:
        """Write where to go on."""
        write_atomically(out / PROGRESS, self._bytes())

    def finish(self, out: Path, losses: Counter[tuple[str, str]]) -> None:
        """Write that all is done, with what the sources could make no sample of."""
        self.left_out += losses
        self.complete = True
        write_atomically(out / DONE, self._bytes())
        (out / PROGRESS).unlink(missing_ok=True)

    def describe(self) -> str:
        """Return one line a kind of sample that was left out, the most frequent first."""
        rows = self.left_out.most_common(8)
        return "\n".join(f"  {count}x {reason} in {place}" for (place, reason), count in rows)

    def _bytes(self) -> bytes:
        table = {
            "format": VERSION,
            "complete": self.complete,
            "pairs": self.pairs,
            "bytes": self.size,
            "samples_read": self.position,
            "duplicates": self.duplicates,
            "left_out": [
                {"place": place, "reason": reason, "count": count}
                for (place, reason), count in self.left_out.most_common()
            ],
            "settings": self.settings,
            "shards": self.shards,
        }
        return (json.dumps(table, indent=2) + "\n").encode()


def begin(out: Path, settings: Mapping[str, Any]) -> Record:
    """Return the record of a folder, or a new one for an empty folder.

    Raises:
        ConfigError: the folder was packed from other data or under other settings, or by another.
        DataError: the record is damaged, or a shard that it names is.
    """
    for name in (DONE, PROGRESS):
        if (out / name).exists():
            record = _read(out / name)
            _check_settings(out, record.settings, settings)
            _check_shards(out, record)
            return record
    if any(out.glob("*.tar")):
        raise ConfigError(
            f"{out} holds shards that were packed by another: give a folder of its own"
        )
    return Record(settings)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other processes from packing into the folder; it is made if need be.

    Raises:
        ConfigError: another process does so now.
        OSError: the folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / BESIDE).mkdir(exist_ok=True)
    with (out / BESIDE / _LOCK).open("w") as lock:
        try:
            # The lock ends with the process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process packs into {out} now: wait for it") from None
        yield


def _read(path: Path) -> Record:
    try:
        table = json.loads(path.read_bytes())
        if table["format"] != VERSION:
            raise ValueError("another version")
        left_out = {(row["place"], row["reason"]): row["count"] for row in table["left_out"]}
        return Record(
            settings=table["settings"],
            shards=table["shards"],
            position=table["samples_read"],
            pairs=table["pairs"],
            duplicates=table["duplicates"],
            left_out=Counter(left_out),
            complete=table["complete"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no record of packing ({error}): remove {path.parent} and pack again"
        ) from None


def _check_settings(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = _flat(before), _flat(now)
    changed = [
        f"{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key]
    ]
    if before.get("sources") != now["sources"]:
        changed.append("the data have changed")
    if changed:
        raise ConfigError(
            f"{out} was begun with other settings: {'; '.join(changed)}. Give the same ones, or "
            "another folder, or remove this one"
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by name, those of the encoding among them."""
    groups = ("encoding", "sources")
    plain = {name: value for name, value in settings.items() if name not in groups}
    return plain | settings.get("encoding", {})


def _check_shards(out: Path, record: Record) -> None:
    for name, size in record.shards.items():
        path = out / name
        found = path.stat().st_size if path.exists() else None
        if found != size:
            state = "is gone" if found is None else f"has {found:,} bytes, not {size:,}"
            raise DataError(f"{path} {state}: remove {out} and pack again")
