"""Tensors on their way to a device.

An ordinary copy waits until everything that the device has been asked for is done. From memory that
is pinned to its place a device fetches tensors by itself, in its turn.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pins(device: torch.device) -> bool:
    """Return whether a device fetches from pinned memory."""
    return device.type == "cuda"


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`, which need not have come to it yet."""
    return (tensor.pin_memory() if pins(device) else tensor).to(device, non_blocking=True)
