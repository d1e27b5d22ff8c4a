"""Shards in a store, as its answers tell of them, and what their URLs say.

Knows what the stores of fsspec call a size, a version and a checksum; asks nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.core import split_protocol

from bifocal.data.index import Stamp
from bifocal.errors import DataError

HTTP = ("http", "https")
_VERSIONS = ("ETag", "etag", "generation", "blob_id", "md5Hash", "Content-MD5", "content_md5")
_TIMES = (
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "created",
)
"""What stores call that which tells the versions of a file apart, the surest first."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One shard in a store.

    Attributes:
        path: what names it among paths: the URL below a root, without a query.
        url: where it is.
        stamp: its size, and a hash of whatever the store tells its versions apart by.
        md5: of its bytes (hex), or "" where the store does not tell.
    """

    path: Path
    url: str
    stamp: Stamp
    md5: str = ""


def is_remote(spec: str) -> bool:
    """Return whether a path is a URL."""
    return split_protocol(spec)[0] not in (None, "file", "local")


def shown(url: str) -> str:
    """Return a URL as messages show it: a query may hold a signature, and a host a password."""
    protocol, at, rest = url.partition("://")
    if protocol in HTTP:
        rest = rest.partition("?")[0].rpartition("@")[2]
    return protocol + at + rest


def is_http(url: str) -> bool:
    """Return whether a URL is of the web's own protocol."""
    return split_protocol(url)[0] in HTTP


def is_pattern(url: str) -> bool:
    """Return whether a URL may match several files; of http, a '?' begins a query."""
    return any(letter in url.partition("?")[0] for letter in "*[") or (
        "?" in url and not is_http(url)
    )


def remote_of(url: str, info: Mapping[str, Any]) -> Remote:
    """Return the shard that a store's answer tells of.

    Raises:
        DataError: its size is not told.
    """
    size = info.get("size")
    if size is None:
        raise DataError(
            f"the store does not tell the size of {shown(url)}: shards need one that does"
        )
    version = next((info[key] for key in (*_VERSIONS, *_TIMES) if info.get(key)), "")
    if isinstance(version, datetime):  # a listing may tell seconds where an answer tells a date
        version = version.timestamp()
    digest = hashlib.blake2b(str(version).encode(), digest_size=7).digest()
    path = url.partition("?")[0] if is_http(url) else url
    return Remote(Path("/") / path, url, Stamp(size, int.from_bytes(digest, "big")), _md5(info))


def _md5(info: Mapping[str, Any]) -> str:
    told = info.get("md5Hash") or info.get("Content-MD5") or info.get("content_md5") or b""
    if isinstance(told, str):
        try:
            told = base64.b64decode(told, validate=True)
        except ValueError:
            return ""
    return bytes(told).hex() if len(told) == 16 else ""
