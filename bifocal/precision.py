"""The dtype in which towers compute, whatever their parameters are stored in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a tower's matrix products run in `precision`."""
    match precision:
        case "float32":
            return nullcontext()
        case _:
            return torch.autocast(device.type, dtype=DTYPES[precision])
