"""In which dtype towers compute, whatever their parameters are stored in, and how exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

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


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take float32 numbers below 2⁻¹²⁶ for zero, as far as this processor can.

    Saturated attention makes such gradients, and a processor's arithmetic on them is many times
    slower. The threads that share a computation with this one inherit the mode when they start, so
    enter it before the first computation of the process. Not for values kept in float16, whose
    stochastic rounding passes through such numbers.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def same_order(wanted: bool) -> Iterator[None]:
    """Let every sum be taken in an order that is always the same, if that is wanted.

    CPUs do so anyway, with the same number of threads; on CUDA devices it is slower, and must be
    entered before the first computation of the process. An operation that knows no such order
    raises RuntimeError.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is asked in no other way
    mode: Any = torch.utils.deterministic
    filled, mode.fill_uninitialized_memory = mode.fill_uninitialized_memory, False  # takes time
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        mode.fill_uninitialized_memory = filled
