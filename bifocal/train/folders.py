"""Folders that are whole or not there, sealed with the hashes of their files.

Knows disks that fill up, fail, or lose power; knows nothing of what is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bifocal.errors import CheckpointError

UNFINISHED = ".unfinished-"
SEAL = "sha256"


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `final` when all is on disk.

    Until then, and for ever if an exception leaves the block, `final` stays as it was.
    """
    temporary = final.with_name(UNFINISHED + final.name)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            sync(path)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def one_message(what: str) -> Iterator[None]:
    """Turn a disk that is full or fails into one message.

    Args:
        what: is done in the block, as "write out/metrics.jsonl".

    Raises:
        CheckpointError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot {what}: {error.strerror or error}; what was saved before is intact. Put that "
            "right and run the same command again to go on from there"
        ) from None


def write_sealed(folder: Path, name: str, table: Mapping[str, Any]) -> None:
    """Write `table` into `folder` with the hashes of its files, itself included."""
    hashes = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    sealed = {**table, SEAL: hashes | {name: _sha256_of(table)}}
    (folder / name).write_text(json.dumps(sealed, indent=2) + "\n", "utf-8")


def fault(folder: Path, name: str) -> str | None:
    """Return what is wrong with a folder that `write_sealed` closed; None if it is whole."""
    try:
        table: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
        for other, digest in table[SEAL].items():
            found = _sha256_of(table) if other == name else _sha256(folder / other)
            if found != digest:
                return f"{other} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error)
    return None


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(table: Mapping[str, Any]) -> str:
    place = {key: value for key, value in table.items() if key != SEAL}
    return hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()
