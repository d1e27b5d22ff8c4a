"""The dtype in which towers compute; parameters stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a tower's matrix products run in `precision`."""
    match precision:
        case "float32":
            return nullcontext()
        case "bfloat16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
