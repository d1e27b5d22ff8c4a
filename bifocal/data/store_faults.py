"""What a store's driver raises: whether asking again may help, and what to tell a person.

Knows errors of fsspec's drivers by what they have in common; asks nothing.
"""

from __future__ import annotations

import errno

from bifocal.data.stored import is_http, shown
from bifocal.errors import BifocalError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
GONE, FORBIDDEN = (404, 410), (401, 403)


def is_missing(error: BaseException) -> bool:
    """Return whether the store says that there is no such file."""
    if not isinstance(error, FileNotFoundError):
        return False
    # Of http, fsspec says "not found" whatever the fault; the status is in what it came from.
    return error.__cause__ is None or not is_http(str(error)) or _status(error) in GONE


def is_forbidden(error: BaseException) -> bool:
    """Return whether the store refuses; one that may not be listed refuses what is not there."""
    return isinstance(error, PermissionError) or _status(error) in FORBIDDEN


def is_full(error: BaseException) -> bool:
    """Return whether the local disk takes no more."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def is_final(error: BaseException) -> bool:
    """Return whether asking again is in vain."""
    known = (BifocalError, ImportError, NotImplementedError, IsADirectoryError)
    found = is_missing(error) or is_forbidden(error) or is_full(error)
    return found or isinstance(error, known)


def complaint(error: BaseException, url: str, attempts: int) -> str:
    """Return what to tell of a store that does not deliver."""
    cause = error.__cause__ or error
    told = " ".join(str(cause).replace(url, shown(url)).split()) or type(cause).__name__
    return (
        f"the store does not deliver {shown(url)} (attempts: {1 if is_final(error) else attempts}; "
        f"the last one: {told}): check the network, the URL and the right to read it, then start "
        "again; a slow store needs a larger data.store_timeout"
    )


def _status(error: BaseException) -> int:
    """Return the status of http that an error stands for, or 0."""
    return getattr(error, "status", 0) or getattr(error.__cause__, "status", 0)
