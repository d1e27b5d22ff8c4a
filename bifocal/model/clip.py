"""CLIP: an image tower and a text tower that meet in one space.

Paper section 2.3 and figure 3. Knows how features become logits; knows nothing of losses, data or
files.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.model.config import CLIPConfig, ModifiedResNetConfig, VisionTransformerConfig
from bifocal.model.layers import ResidualAttentionBlock, Transformer
from bifocal.model.modified_resnet import Bottleneck, ModifiedResNet
from bifocal.model.text_transformer import TextTransformer
from bifocal.model.vision_transformer import VisionTransformer
from bifocal.types import Features

MAX_LOGIT_SCALE = 100.0
Tower = Literal["image", "text"]


class CLIP(TextTransformer):
    """Both towers, their linear projections and the learnable temperature.

    Args:
        config: the architecture.
        seed: of the random initial weights; the same seed gives the same weights everywhere.
    """

    logit_scale: nn.Parameter
    """Logarithm of the multiplier, as in published checkpoints."""
    logit_bias: nn.Parameter | None
    """Added to the logits, for models of a sigmoid loss; None for the paper's."""

    def __init__(self, config: CLIPConfig, seed: int = 0) -> None:
        super().__init__(config.text, config.embed_dim, config.activation)
        self.locked: Tower | None = None
        self.config = config
        self.visual: VisionTransformer | ModifiedResNet = _image_tower(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        biased = config.init_logit_bias is not None
        self.register_parameter("logit_bias", nn.Parameter(torch.empty(())) if biased else None)
        if not self.logit_scale.is_meta:
            self.initialize(torch.Generator().manual_seed(seed))

    def encode_image(
        self,
        images: Float[Tensor, "batch 3 height height"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features of unit norm for normalised pictures.

        Args:
            images: normalised pictures of the model's size.
            kept: the patches of each that a Vision Transformer reads; None for all.

        Raises:
            ConfigError: the pictures are not of the model's size, or the tower has no patches.
        """
        size = self.config.vision.image_size
        if tuple(images.shape[1:]) != (3, size, size):
            raise ConfigError(
                f"pictures of shape {tuple(images.shape[1:])}, expected (3, {size}, {size}): "
                "prepare them with the model's own preprocessing"
            )
        if kept is None:
            return F.normalize(self.visual(images), dim=-1)
        if not isinstance(self.visual, VisionTransformer):
            raise ConfigError("only a Vision Transformer reads patches: leave patch dropout at 0")
        return F.normalize(self.visual(images, kept), dim=-1)

    def encode_text(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch embed_dim"]:
        """Return text features of unit norm for token ids."""
        return F.normalize(self.read_text(tokens), dim=-1)

    def features(
        self,
        images: Float[Tensor, "batch 3 height height"],
        tokens: Int[Tensor, "batch length"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Features:
        """Return what a contrastive loss reads: both features and the multiplier."""
        image, text = self.encode_image(images, kept), self.encode_text(tokens)
        return Features(image, text, self.logit_scale.exp(), self.logit_bias)

    def forward(
        self,
        images: Float[Tensor, "images 3 height height"],
        tokens: Int[Tensor, "texts length"],
    ) -> tuple[Float[Tensor, "images texts"], Float[Tensor, "texts images"]]:
        """Return (logits_per_image, logits_per_text): exp(logit_scale) · cosines (+ logit_bias)."""
        image_features, text_features = self.encode_image(images), self.encode_text(tokens)
        logits_per_image = self.logit_scale.exp() * image_features @ text_features.T
        if self.logit_bias is not None:
            logits_per_image = logits_per_image + self.logit_bias
        return logits_per_image, logits_per_image.T

    @torch.no_grad()
    def clamp_logit_scale(self, maximum: float = MAX_LOGIT_SCALE) -> None:
        """Keep the multiplier at or below `maximum`, as the paper does for stability."""
        self.logit_scale.clamp_(max=math.log(maximum))

    def lock(self, tower: Tower) -> None:
        """Keep a tower and its projection as they are (Zhai et al. 2022, "LiT", arXiv 2111.07991).

        A locked tower gets no gradients, and its BatchNorm uses its running statistics.
        """
        self.locked = tower
        for parameter in self.tower_parameters(tower):
            parameter.requires_grad_(False)
        self.train(self.training)

    def tower_parameters(self, tower: Tower) -> list[nn.Parameter]:
        """Return the parameters of one tower and its projection."""
        if tower == "image":
            return list(self.visual.parameters())
        others = {id(self.logit_scale), id(self.logit_bias), *map(id, self.visual.parameters())}
        return [p for p in self.parameters() if id(p) not in others]

    def train(self, mode: bool = True) -> CLIP:
        """Choose between training and evaluation; a locked tower stays in evaluation."""
        super().train(mode)
        if self.locked == "image":
            self.visual.eval()
        return self

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Choose whether activations inside the blocks of both towers are kept for gradients."""
        for module in self.modules():
            if isinstance(module, Transformer | ModifiedResNet):
                module.checkpointing = enabled

    def compile_blocks(self) -> None:
        """Compile the blocks of both towers; the first steps take a minute longer.

        All blocks of a tower share their code. Captions are padded to a multiple of 16 tokens, so
        that it is made for a handful of lengths.
        """
        self.length_multiple = 16
        for module in self.modules():
            if isinstance(module, ResidualAttentionBlock | Bottleneck):
                module.compile(dynamic=False)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw every weight anew from `generator`, in a fixed order."""
        self.initialize_text(generator)
        self.visual.initialize(generator)
        self.logit_scale.fill_(math.log(1 / self.config.init_temperature))
        if self.logit_bias is not None:
            self.logit_bias.fill_(self.config.init_logit_bias or 0.0)


def _image_tower(config: CLIPConfig) -> VisionTransformer | ModifiedResNet:
    match config.vision:
        case VisionTransformerConfig() as vision:
            return VisionTransformer(vision, config.embed_dim, config.activation)
        case ModifiedResNetConfig() as vision:
            return ModifiedResNet(vision, config.embed_dim)
