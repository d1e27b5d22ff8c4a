"""Archives in a store, read from a cache on the local disk.

What is known of them is kept in the user's cache too, so that opening a source again costs one
listing. Knows when a shard is fetched; the store knows how, and the cache where it stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bifocal.data.archive import Reader
from bifocal.data.archives import OPEN_FILES
from bifocal.data.cache import ShardCache
from bifocal.data.index import Stamp
from bifocal.data.shelf import Shelf, folder_name
from bifocal.data.store import Store
from bifocal.data.stored import Remote
from bifocal.errors import BifocalError, ConfigError, DataError
from bifocal.files import write_atomically

SHARDS, INDEXES = "shards", "indexes"
_log = logging.getLogger(__name__)


class Fetched:
    """Archives of a store, fetched when they are first read.

    Args:
        shards: as the store tells of them.
        store: fetches them.
        folder: of the cache, and of the indexes.
        limit: bytes of the cache.

    Raises:
        ConfigError: the cache cannot hold the largest of them, or its folder cannot be made.
    """

    are_files = False

    def __init__(self, shards: Sequence[Remote], store: Store, folder: Path, limit: int) -> None:
        self._shards: Mapping[Path, Remote] = {shard.path: shard for shard in shards}
        self._store = store
        self._folder = folder
        self._cache = ShardCache(folder / SHARDS, limit)
        largest = max((shard.stamp.size for shard in shards), default=0)
        if largest > limit:
            raise ConfigError(
                f"a shard of {largest / 1e9:.3g} GB does not fit a cache of {limit / 1e9:.3g} GB: "
                "set data.cache_gb to several times the size of a shard"
            )
        # Half for what is open, which cannot be evicted; half for what is read next.
        self.most_open = min(OPEN_FILES, max(1, limit // 2 // max(1, largest)))
        self._lock = threading.Lock()
        self._next: list[Remote] = []
        self._thread: threading.Thread | None = None

    def stamp(self, path: Path) -> Stamp:
        """Return the state that the store told."""
        return self._shards[path].stamp

    def stamps(self, paths: Sequence[Path]) -> list[Stamp]:
        """Return the states that the store told."""
        return [self.stamp(path) for path in paths]

    def shelf(self, folder: Path) -> Shelf:
        """Return a shelf in the user's cache."""
        return Shelf(folder, [self._folder / INDEXES / folder_name(folder)])

    def beside(self, folder: Path, name: str) -> bytes | None:
        """Return a small file that lies in the store, below the place of a folder's shards."""
        url = next(shard.url for path, shard in self._shards.items() if path.parent == folder)
        return self._store.read(url.partition("?")[0].rpartition("/")[0] + "/" + name)

    def open(self, path: Path, now: Stamp) -> Reader:
        """Return a reader of a shard, which stays in the cache while the reader lives."""
        shard = self._shards[path]
        if shard.stamp != now:
            raise DataError("shard changed while in use")
        return self._open(shard)

    def is_settled(self, path: Path, now: Stamp) -> bool:
        """Return that it is: a store gives every version a name of its own."""
        return True

    def expect(self, paths: Sequence[Path]) -> None:
        """Fetch what fits half of the cache, in one thread, until told otherwise."""
        room = self._cache.limit // 2
        wanted = []
        for shard in (self._shards[path] for path in paths):
            room -= shard.stamp.size
            if room < 0:
                break
            wanted.append(shard)
        with self._lock:
            self._next = wanted
            if self._thread is None and wanted:
                self._thread = threading.Thread(target=self._fetch_ahead, daemon=True, name="ahead")
                self._thread.start()

    def keep(self, name: str, content: bytes) -> Path:
        """Write a small file that belongs to the shards to the cache; return where it is.

        Raises:
            ConfigError: it cannot be written.
        """
        folder = next(iter(self._shards)).parent
        path = self._folder / INDEXES / folder_name(folder) / name
        try:
            write_atomically(path, content)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error}; set data.cache_dir") from None
        return path

    def _fetch_ahead(self) -> None:
        while True:
            with self._lock:
                if not self._next:
                    self._thread = None
                    return
                shard = self._next.pop(0)
            try:
                self._open(shard, attempts=1)
            except BifocalError as error:
                _log.info("could not read ahead: %s", error)  # whoever needs the shard says more
                with self._lock:
                    self._next = []

    def _open(self, shard: Remote, attempts: int = 0) -> Reader:
        fetch = partial(self._store.fetch, shard, attempts=attempts)
        return self._cache.open(self._cache.path(str(shard.path), shard.stamp), fetch)
