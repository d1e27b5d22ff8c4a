"""What a tower's features pass after its linear projection, where the projection is not linear.

Paper section 2.3: "we do not use the non-linear projection between the representation and the
contrastive embedding space", a change from SimCLR (Chen et al. 2020, arXiv 2002.05709, section 4.2:
one hidden layer), of which it "did not notice a difference in training efficiency". Here is that
hidden layer, for those who compare:

    linear    x P
    mlp       GELU(x P) W ᵀ

with P the tower's own projection, under its published name, and W of embed_dim × embed_dim. Knows
features; knows no towers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

GAIN = (1 / 3 + 1 / (2 * math.pi * math.sqrt(3))) ** -0.5
"""Inverse of the root mean square of GELU(z) = z Φ(z) for standard normal z."""


class ProjectionHead(nn.Linear):
    """The hidden layer's activation and the matrix behind it.

    Args:
        embed_dim: width of the shared space, and of the hidden layer.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim, embed_dim, bias=False)

    def forward(self, input: Float[Tensor, "batch embed_dim"]) -> Float[Tensor, "batch embed_dim"]:
        """Return features of the shared space, not normalised, for linearly projected ones."""
        return super().forward(F.gelu(input))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the matrix anew, so that features of unit variance keep it."""
        nn.init.normal_(self.weight, std=GAIN * self.in_features**-0.5, generator=generator)
