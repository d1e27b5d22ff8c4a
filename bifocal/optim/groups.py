"""Which parameters decay, which are stored in 16 bits, and the optimizer that moves them.

Paper section 2.5: Adam with decoupled weight decay (Loshchilov & Hutter 2019) "applied to all
weights that are not gains or biases"; "half-precision stochastically rounded text encoder weights".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bifocal.optim.adamw import AdamW
from bifocal.optim.statistics import Statistics


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: matrices and kernels decay; gains, biases and scalars do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [(name, p) for name, p in trained if p.ndim >= 2]
    free = [(name, p) for name, p in trained if p.ndim < 2]
    return [_group(decayed, weight_decay), _group(free, 0.0)]


def adamw(
    model: nn.Module,
    *,
    weight_decay: float,
    beta1: float,
    beta2: float,
    eps: float,
    statistics: Statistics = "float32",
    max_update_rms: float | None = None,
) -> AdamW:
    """Return AdamW over the paper's groups; the schedule sets `lr` every step."""
    return AdamW(
        decay_groups(model, weight_decay),
        betas=(beta1, beta2),
        eps=eps,
        statistics=statistics,
        max_update_rms=max_update_rms,
    )


def store_matrices(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Store matrices and kernels in `dtype`, rounded to nearest; gains, biases and scalars stay.

    To be called before the optimizer's first step. Gradients then come in `dtype` too.
    """
    for parameter in parameters:
        if parameter.ndim >= 2:
            parameter.data = parameter.data.to(dtype)


def _group(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> dict[str, Any]:
    return {
        "params": [parameter for _, parameter in named],
        "param_names": [name for name, _ in named],
        "weight_decay": weight_decay,
    }
