"""CLIP: an image tower and a text tower that meet in one space.

Paper section 2.3 and figure 3. Knows how features become logits; knows nothing of losses, data or
files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.model.config import (
    PREDICTED,
    CLIPConfig,
    ModifiedResNetConfig,
    VisionTransformerConfig,
)
from bifocal.model.layers import ResidualAttentionBlock, Transformer
from bifocal.model.modified_resnet import Bottleneck, ModifiedResNet
from bifocal.model.projection import ProjectionHead
from bifocal.model.text_transformer import TextTransformer
from bifocal.model.vision_transformer import VisionTransformer
from bifocal.types import Features

MAX_LOGIT_SCALE = 100.0
VARIANTS = 32
"""Forms of a block that torch may compile; beyond that it would go on without, and say so once."""
Tower = Literal["image", "text"]


class TwoTowers(nn.Module):
    """An image tower beside a text tower of any kind, and the learnable temperature.

    A text tower's class is the other parent of a whole model, and comes first, since the published
    layout keeps its parameters at the root.
    """

    config: CLIPConfig
    visual: VisionTransformer | ModifiedResNet
    image_head: ProjectionHead | nn.Identity
    """What features pass after the tower's linear projection: nothing in the paper's models."""
    text_head: ProjectionHead | nn.Identity
    logit_scale: nn.Parameter
    """Logarithm of the multiplier, as in published checkpoints."""
    logit_bias: nn.Parameter | None
    """Added to the logits, for models of a sigmoid loss; None for the paper's."""
    locked: Tower | None
    context_length: int
    vocab_size: int
    token_embedding: nn.Embedding
    text_projection: nn.Parameter

    def complete(self, config: CLIPConfig, seed: int) -> None:
        """Set an image tower and a temperature beside the text tower, and draw the weights."""
        self.locked = None
        self.config = config
        self.visual = _image_tower(config)
        self.image_head, self.text_head = _projection_head(config), _projection_head(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        biased = config.init_logit_bias is not None
        self.register_parameter("logit_bias", nn.Parameter(torch.empty(())) if biased else None)
        if not self.logit_scale.is_meta:
            self.initialize(torch.Generator().manual_seed(seed))

    def read_text(
        self, tokens: Int[Tensor, "batch length"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, linearly projected; the text tower's."""
        raise NotImplementedError

    def initialize_text(self, generator: torch.Generator) -> None:
        """Draw every weight of the text tower anew; the text tower's."""
        raise NotImplementedError

    def text_modules(self) -> list[nn.Module]:
        """Return the text tower's modules, those that stand in others left out."""
        return [self.token_embedding]

    def read_image(
        self,
        images: Float[Tensor, "batch 3 height height"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features, linearly projected, for normalised pictures.

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
            return self.visual(images)
        if not isinstance(self.visual, VisionTransformer):
            raise ConfigError("only a Vision Transformer reads patches: leave patch dropout at 0")
        return self.visual(images, kept)

    def encode_image(
        self,
        images: Float[Tensor, "batch 3 height height"],
        kept: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return image features of unit norm; see `read_image`."""
        return F.normalize(self.image_head(self.read_image(images, kept)), dim=-1)

    def encode_text(
        self, tokens: Int[Tensor, "batch length"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text features of unit norm.

        Args:
            tokens: ids; the end-of-text token has the highest id of its row.
            lengths: of the rows up to there, where they are known.

        Raises:
            ConfigError: the model predicts texts and has no features of them.
        """
        if self.config.objective != "contrastive":
            raise ConfigError(
                f"this model predicts {PREDICTED[self.config.objective]} and has no text features: "
                "bifocal evaluate zero-shot asks it for likelihoods; for text features train with "
                "loss.form=softmax"
            )
        return F.normalize(self.text_head(self.read_text(tokens, lengths)), dim=-1)

    def features(
        self,
        images: Float[Tensor, "batch 3 height height"],
        tokens: Int[Tensor, "batch length"],
        kept: Int[Tensor, "batch kept"] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Features:
        """Return what a contrastive loss reads: both features and the multiplier."""
        image, text = self.encode_image(images, kept), self.encode_text(tokens, lengths)
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
        """Keep the multiplier at or below `maximum` (which may be inf), for stability as the paper
        does."""
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
            return [*self.visual.parameters(), *self.image_head.parameters()]
        others = {id(self.logit_scale), id(self.logit_bias)}
        others.update(map(id, self.tower_parameters("image")))
        return [p for p in self.parameters() if id(p) not in others]

    def train(self, mode: bool = True) -> TwoTowers:
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

        All blocks of a tower share their code: one for the last block and one for the others, with
        gradients and without. A text tower's is made for any number of tokens at once, an image
        tower's for the size of a batch, and once more for any where a second size comes.
        """
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, VARIANTS)
        packed = set(self.transformer.modules()) if isinstance(self, TextTransformer) else set()
        for module in self.modules():
            if isinstance(module, ResidualAttentionBlock | Bottleneck):
                module.compile(dynamic=True if module in packed else None)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw every weight anew from `generator`, in a fixed order."""
        self.initialize_text(generator)
        self.visual.initialize(generator)
        self.logit_scale.fill_(math.log(1 / self.config.init_temperature))
        if self.logit_bias is not None:
            self.logit_bias.fill_(self.config.init_logit_bias or 0.0)
        for head in (self.image_head, self.text_head):
            if isinstance(head, ProjectionHead):
                head.initialize(generator)


class CLIP(TextTransformer, TwoTowers):
    """Both towers of the paper, their projections and the learnable temperature.

    Args:
        config: the architecture.
        seed: of the random initial weights; the same seed gives the same weights everywhere.

    Raises:
        ConfigError: the text tower is a bag of words; see bifocal.model.build.
    """

    def __init__(self, config: CLIPConfig, seed: int = 0) -> None:
        super().__init__(config.text_transformer, config.embed_dim, config.activation)
        self.complete(config, seed)

    def text_modules(self) -> list[nn.Module]:
        """Return the text tower's modules, those that stand in others left out."""
        return [self.transformer, self.token_embedding]


def _image_tower(config: CLIPConfig) -> VisionTransformer | ModifiedResNet:
    match config.vision:
        case VisionTransformerConfig() as vision:
            return VisionTransformer(vision, config.embed_dim, config.activation)
        case ModifiedResNetConfig() as vision:
            return ModifiedResNet(vision, config.embed_dim)


def _projection_head(config: CLIPConfig) -> ProjectionHead | nn.Identity:
    match config.projection:
        case "linear":
            return nn.Identity()
        case "mlp":
            return ProjectionHead(config.embed_dim)
