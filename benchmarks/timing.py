"""How long a call takes on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, the device's queue included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
