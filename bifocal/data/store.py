"""Shards in a store that fsspec can reach: found, told apart, fetched whole.

s3:// needs the package s3fs, gs:// gcsfs, http:// aiohttp, hf:// none; what a store wants to know
(keys, an endpoint) is set as fsspec documents: FSSPEC_S3_ENDPOINT_URL=…, or its JSON files in
~/.config/fsspec. Knows stores; knows nothing of caches or of what is in a shard.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from bifocal.data.braces import expand
from bifocal.data.patience import Patience, patiently, watched
from bifocal.data.store_faults import complaint, is_final, is_forbidden, is_full, is_missing
from bifocal.data.stored import Remote, is_http, is_pattern, remote_of, shown
from bifocal.errors import BifocalError, ConfigError, DataError, TrainingError

ASKED = 32
"""Files that are asked about at a time, where a store cannot list."""
LISTING = 5
"""Times the patience for bytes that a listing may take: it is one call, however long."""


class Store:
    """What is behind the URLs of one protocol and host.

    Args:
        url: any of them.
        patience: how long to bear with it.

    Raises:
        ConfigError: no store is known by the protocol, or the package for it is missing.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self._patience = patience
        try:
            self._files, _ = url_to_fs(url, **_options(url, patience))
        except (ImportError, ValueError) as error:
            raise ConfigError(f"cannot read {shown(url)}: {error}") from None

    def find(self, pattern: str) -> list[Remote]:
        """Return the shards that a URL with braces and `*` names, or all of a folder, by name.

        Raises:
            DataError: some part of it names nothing, or the store does not answer.
        """
        found: dict[Path, Remote] = {}
        names = []
        for url in expand(pattern):
            if is_pattern(url):
                found |= self._matching(url)
            elif url.endswith("/") or not url.partition("?")[0].endswith(".tar"):
                found |= self._matching(url.rstrip("/") + "/*.tar")
            else:
                names.append(url)
        found |= self._named(names)
        return [found[path] for path in sorted(found)]

    def fetch(self, shard: Remote, to: Path, attempts: int = 0) -> None:
        """Write a shard to a new file; nothing but the whole shard is left there.

        Args:
            shard: as `find` told it.
            to: the file; each attempt writes one of its own beside it, and renames it.
            attempts: other than the patience's.

        Raises:
            DataError: it is gone, or is another than it was.
            TrainingError: the store does not deliver, or the disk does not take it: no fault of
                the data, for which other samples could stand in.
        """
        patience = self._patience
        if attempts:
            patience = Patience(patience.stall, attempts, patience.pause)
        try:
            patiently(lambda: self._attempt(shard, to), patience, is_final)
        except BifocalError:
            raise
        except Exception as error:  # noqa: BLE001 - a store's driver raises what it likes
            raise self._fault(error, shard.url, to) from None

    def read(self, url: str) -> bytes | None:
        """Return the bytes of a small file, or None if it is not there.

        Raises:
            DataError: the store does not answer.
        """

        def get() -> bytes | None:
            try:
                return self._files.cat_file(url)
            except Exception as error:
                if is_missing(error) or is_forbidden(error):
                    return None
                raise

        return self._ask(get, url)

    def _attempt(self, shard: Remote, to: Path) -> None:
        # Of its own: an attempt that was given up may yet write.
        draft = to.with_name(f"{to.name}.{secrets.token_hex(6)}")
        stall = self._patience.stall

        def size() -> int:
            return draft.stat().st_size if draft.exists() else 0

        try:
            watched(lambda: self._files.get_file(shard.url, str(draft)), stall, size)
            if size() != shard.stamp.size:
                self._check_same(shard)
                raise OSError(f"{size()} bytes came of {shard.stamp.size}")
            self._check_same(shard)
            _finish(draft, shard.md5)
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)

    def _check_same(self, shard: Remote) -> None:
        stall = self._patience.stall
        info = patiently(
            lambda: watched(lambda: self._info(shard.url), stall), self._patience, is_final
        )
        if remote_of(shard.url, info).stamp != shard.stamp:
            raise DataError(f"shard changed in the store while in use: {shown(shard.url)}")

    def _info(self, url: str) -> Mapping[str, Any]:
        self._files.invalidate_cache()
        return self._files.info(url)

    def _matching(self, pattern: str) -> dict[Path, Remote]:
        try:
            listed = self._ask(lambda: self._files.glob(pattern, detail=True), pattern, LISTING)
        except FileNotFoundError:
            listed = {}
        infos: Iterable[Mapping[str, Any]] = listed.values()
        files = [info for info in infos if info["type"] == "file"]
        urls = [self._files.unstrip_protocol(info["name"]) for info in files]
        if not files:
            raise DataError(
                f"nothing matches {shown(pattern)}: check it; for a store that cannot list, name "
                "the shards by braces, as in {00000..00123}.tar"
            )
        if any(info.get("size") is None for info in files):
            return self._named(urls)
        remotes = map(remote_of, urls, files)
        return {remote.path: remote for remote in remotes}

    def _named(self, urls: list[str]) -> dict[Path, Remote]:
        def look(url: str) -> Remote:
            return remote_of(url, self._ask(lambda: self._info(url), url))

        with ThreadPoolExecutor(ASKED, thread_name_prefix="ask") as pool:
            try:
                remotes = list(pool.map(look, urls))
            except FileNotFoundError as error:
                pool.shutdown(cancel_futures=True)
                raise DataError(f"nothing is at {shown(str(error))}: check it") from None
            except BifocalError:
                pool.shutdown(cancel_futures=True)
                raise
        found = {remote.path: remote for remote in remotes}
        if len(found) < len(urls):
            raise ConfigError(
                f"{len(urls)} URLs such as {shown(urls[0])} have the names of {len(found)} "
                "shards: what tells shards apart must stand before a '?'"
            )
        return found

    def _ask(self, call: Any, url: str, times: int = 1) -> Any:
        """Return the answer to a question.

        Raises:
            FileNotFoundError: the store says so itself.
            DataError: it does not answer.
        """
        patience = self._patience
        try:
            return patiently(lambda: watched(call, times * patience.stall), patience, is_final)
        except BifocalError:
            raise
        except Exception as error:
            if is_missing(error):
                raise
            raise DataError(complaint(error, url, patience.attempts)) from None

    def _fault(self, error: Exception, url: str, to: Path) -> BifocalError:
        if is_missing(error):
            return DataError(f"shard not in the store any more: {shown(url)}")
        if is_full(error):
            return TrainingError(
                f"cannot keep a shard in {to.parent}: {error}; make room, or set data.cache_dir to "
                "another disk and data.cache_gb to what it can take"
            )
        return TrainingError(complaint(error, url, self._patience.attempts))


def _finish(draft: Path, md5: str) -> None:
    """Have a fetched file on the disk, and hold it to the checksum that the store tells."""
    with draft.open("rb") as file:
        if md5 and hashlib.file_digest(file, "md5").hexdigest() != md5:
            raise OSError("its bytes do not have the checksum that the store tells")
        os.fsync(file.fileno())


def _options(url: str, patience: Patience) -> dict[str, Any]:
    """Return what a store is opened with; http has a limit of five minutes a file by default."""
    if not is_http(url):
        return {}
    try:
        from aiohttp import ClientTimeout
    except ImportError as error:
        raise ConfigError(f"cannot read {shown(url)}: it needs the package aiohttp") from error
    timeout = ClientTimeout(total=None, sock_connect=patience.stall, sock_read=patience.stall)
    return {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
