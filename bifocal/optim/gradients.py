"""What is to be known of all gradients before a step, and how they are kept within a limit.

Knows gradients; knows nothing of models, losses or averages.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bifocal.optim.kernel import Kernel
from bifocal.optim.spread import is_spread, local, over_processes


@dataclass(frozen=True, slots=True)
class Measured:
    """The gradients of a step, measured."""

    norm: float
    """Of all of them together; not finite where an element is not."""
    peaks: Mapping[Tensor, float] = field(default_factory=dict)
    """Max |g| by parameter, where it was found on the way; else nothing."""


@torch.no_grad()
def clip_gradients(
    parameters: Iterable[Tensor], limit: float | None, kernel: Kernel | None = None
) -> Measured:
    """Measure the gradients, and scale them down to a norm of `limit` where theirs is beyond it.

    Those that are not finite stay as they are. A collective call where some are spread.

    Args:
        parameters: that may have a gradient.
        limit: none if there is none.
        kernel: finds the largest elements too, at no cost.
    """
    held = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = gradients_of(held)
    if kernel and all(map(kernel.measures, gradients)):
        squares, peaks = kernel.measure(gradients)
        squares = over_processes(squares, held, dist.ReduceOp.SUM)
        peaks = over_processes(peaks, held, dist.ReduceOp.MAX)
        norm = squares.sum().sqrt()
        measured = Measured(norm.item(), dict(zip(held, peaks.tolist(), strict=True)))
    else:
        norm = _norm(held)
        measured = Measured(norm.item())
    if limit is None or not math.isfinite(measured.norm):
        return measured
    factor = limit / (measured.norm + 1e-6)
    if factor >= 1:
        return measured
    torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
    return Measured(measured.norm)


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients that parameters have, those rows that are here."""
    return [local(p.grad) for p in parameters if p.grad is not None]


def _norm(held: Sequence[Tensor]) -> Float[Tensor, ""]:
    if not held:
        return torch.zeros(())
    gradients = gradients_of(held)
    # torch's own total norm would add up gradients of 16 bits to numbers of 16 bits.
    dtype = functools.reduce(torch.promote_types, (g.dtype for g in gradients), torch.float32)
    norms = torch.stack(torch._foreach_norm(gradients, 2, dtype=dtype))  # pyright: ignore[reportPrivateImportUsage]
    if any(map(is_spread, held)):
        norms = over_processes(norms.square(), held, dist.ReduceOp.SUM).sqrt()
    return torch.linalg.vector_norm(norms)
