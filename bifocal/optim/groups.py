"""Which parameters decay, and the optimizer that moves them.

Paper section 2.5: Adam with decoupled weight decay (Loshchilov & Hutter 2019) "applied to all
weights that are not gains or biases".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: matrices and kernels decay; gains, biases and scalars do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def adamw(
    model: nn.Module, *, weight_decay: float, beta1: float, beta2: float, eps: float
) -> torch.optim.AdamW:
    """Return torch's fused AdamW over the paper's groups; the schedule sets `lr` every step."""
    groups = decay_groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=0.0, betas=(beta1, beta2), eps=eps, fused=True)
