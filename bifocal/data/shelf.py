"""Where derived files of a folder of shards are kept: beside them, else in the user's cache.

What is kept here can be made again, so a place that cannot be written is passed over, with one
message. Knows places and atomic writing; knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from bifocal.files import write_atomically

BESIDE = ".bifocal"
_log = logging.getLogger(__name__)


class Shelf:
    """Named files that belong to one folder.

    Args:
        folder: whose files they are. Where its mode grants nobody to write, it is left alone.
        places: where they are kept; by default beside the folder's own, or in the user's cache.
    """

    def __init__(self, folder: Path, places: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._places = list(places) or [folder / BESIDE, *_cache(folder)]
        self._failed: set[Path] = set()
        self._lock = threading.Lock()

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the contents of the files of that name, one a place."""
        for place in self._places:
            with contextlib.suppress(OSError):
                yield (place / name).read_bytes()

    def write(self, name: str, data: bytes) -> bool:
        """Keep a file in the first place that takes it; return whether one did."""
        for place in self._places:
            if place in self._failed:
                continue
            try:
                self._check(place)
                write_atomically(place / name, data)
            except OSError as error:
                self._pass_over(place, error)
            else:
                return True
        return False

    def _check(self, place: Path) -> None:
        if place.parent == self._folder and not self._folder.stat().st_mode & 0o222:
            raise PermissionError(None, "the folder is read-only")

    def _pass_over(self, place: Path, error: OSError) -> None:
        with self._lock:
            if place in self._failed:
                return
            self._failed.add(place)
            left = [str(other) for other in self._places if other not in self._failed]
        _log.warning(
            "cannot keep the index of %s in %s (%s): it goes to %s",
            self._folder,
            place,
            error.strerror or error,
            left[0] if left else "memory alone, and is made again by the next run",
        )


def user_cache() -> Path | None:
    """Return bifocal's folder in the user's cache, if the user has one."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "bifocal"
    except RuntimeError:
        return None


def folder_name(folder: Path) -> str:
    """Return what a folder's files are kept under, away from it."""
    return hashlib.blake2b(os.fsencode(folder), digest_size=16).hexdigest()


def _cache(folder: Path) -> list[Path]:
    cache = user_cache()
    return [] if cache is None else [cache / folder_name(folder.resolve())]
