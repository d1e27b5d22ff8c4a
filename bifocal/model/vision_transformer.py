"""The Vision Transformer image tower (Dosovitskiy et al. 2021, with CLIP's extra ln_pre).

Paper section 2.4. Knows pictures as normalised floats; knows nothing of text.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.model.config import Activation, VisionTransformerConfig
from bifocal.model.layers import Transformer


class VisionTransformer(nn.Module):
    """Patches, a class token and a transformer; features are the class token's, projected.

    Args:
        config: sizes of the tower.
        embed_dim: width of the shared space.
        activation: the one inside the transformer's blocks.
    """

    def __init__(
        self, config: VisionTransformerConfig, embed_dim: int, activation: Activation
    ) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch_size
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.patches + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width, config.layers, config.heads, causal=False, activation=activation
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height height"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, not normalised.

        Args:
            images: normalised pictures.
            kept: the patches of each picture that are read; None for all.
        """
        return self.penultimate(images, kept) @ self.proj

    def penultimate(
        self,
        images: Float[Tensor, "batch 3 height height"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch width"]:
        """Return the class token after `ln_post`, which is then projected: what probes read."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        positions = self.positional_embedding.to(patches.dtype)
        patches = patches + positions[1:]
        if kept is not None:
            patches = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
        first = self.class_embedding.to(patches.dtype) + positions[0]
        x = torch.cat([first.expand(len(patches), 1, -1), patches], dim=1)
        return self.ln_post(self.transformer(self.ln_pre(x), one=True))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw every weight anew: embeddings and projection at width^-1/2."""
        std = self.config.width**-0.5
        for weight in (self.class_embedding, self.positional_embedding, self.proj):
            nn.init.normal_(weight, std=std, generator=generator)
        fan_in = self.conv1.weight[0].numel()
        nn.init.normal_(self.conv1.weight, std=fan_in**-0.5, generator=generator)
        self.transformer.initialize(generator)
        self.ln_pre.reset_parameters()
        self.ln_post.reset_parameters()
