"""Calls to what may fail for a moment, or never answer: tried again, watched, given up.

Knows time and errors; knows nothing of stores.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a store.

    Attributes:
        stall: seconds without progress after which an attempt is given up.
        attempts: tries in all.
        pause: seconds before the second; each later pause is twice as long.
    """

    stall: float = 60.0
    attempts: int = 5
    pause: float = 1.0


class Stalled(TimeoutError):
    """Nothing moved for as long as one is willing to wait."""


def patiently(
    call: Callable[[], T], patience: Patience, is_final: Callable[[Exception], bool]
) -> T:
    """Return what `call` returns, tried again after each error that is not final.

    Raises:
        Exception: the final one, or the last.
    """
    for attempt in range(1, patience.attempts + 1):
        try:
            return call()
        except Exception as error:
            if attempt == patience.attempts or is_final(error):
                raise
            _log.info("attempt %d failed (%s): tried again", attempt, error)
        time.sleep(patience.pause * 2 ** (attempt - 1))
    raise AssertionError("at least one attempt is made")


def watched(call: Callable[[], T], stall: float, progress: Callable[[], int] = int) -> T:
    """Return what `call` returns, run in a thread that is left behind when it stands still.

    Args:
        call: what is done. One that is left behind may yet wake: it must own what it writes to.
        stall: seconds for which `progress` may stay the same.
        progress: a number that grows while all is well; by default the whole call has `stall`.

    Raises:
        Stalled: it stood still.
        Exception: whatever `call` raises.
    """
    done: Future[T] = Future()
    threading.Thread(target=_run, args=(call, done), daemon=True, name="store").start()
    seen, since = progress(), time.monotonic()
    while True:
        try:
            return done.result(timeout=min(stall / 10, 1.0))
        except TimeoutError:
            if done.done():
                return done.result()  # the call's own timeout, or it ended just now
        now = progress()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > stall:
            raise Stalled(f"nothing moved for {stall:g} seconds")


def _run(call: Callable[[], T], done: Future[T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        done.set_exception(error)
    else:
        done.set_result(result)
