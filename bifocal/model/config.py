"""What a CLIP is made of: frozen settings of both towers, told apart by type.

Follows paper section 2.4 and tables 19-20. Knows sizes and names; builds nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from bifocal.errors import ConfigError
from bifocal.settings import Settings

Activation = Literal["quick_gelu", "gelu"]
Objective = Literal["contrastive", "bag_of_words", "caption"]
"""What training taught a model, and so what it can be asked: to say which texts and pictures belong
together, which words a picture's caption holds, or what the caption is."""

HEAD_WIDTH = 64

PREDICTED = {"bag_of_words": "the words of captions", "caption": "captions"}
"""What a model of a predictive objective predicts, in words."""


class VisionTransformerConfig(Settings):
    """An image tower that reads square patches (ViT)."""

    image_size: PositiveInt = 224
    patch_size: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch_size) ** 2

    @model_validator(mode="after")
    def _check(self) -> VisionTransformerConfig:
        _check_heads(self.width, self.heads)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        return self


class ModifiedResNetConfig(Settings):
    """An image tower of bottleneck convolutions with attention pooling (paper section 2.4)."""

    image_size: PositiveInt = 224
    width: PositiveInt
    """Channels after the stem; the last stage has 32 times as many."""
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    """Bottleneck blocks of each stage."""
    heads: PositiveInt
    init_residual_gain: float = Field(default=0.0, ge=0)
    """First gain of each block's last normalisation. Zero, the paper's, starts every block as its
    shortcut, which steadies deep towers; shallow ones learn faster from one."""

    @property
    def feature_width(self) -> int:
        """Channels of the last feature map, which the attention pooling reads."""
        return self.width * 32

    @property
    def feature_size(self) -> int:
        """Rows (and columns) of the last feature map: a 32nd of the picture."""
        return self.image_size // 32

    @model_validator(mode="after")
    def _check(self) -> ModifiedResNetConfig:
        _check_heads(self.feature_width, self.heads)
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd: the stem halves it")
        if self.image_size % 32:
            raise ValueError(f"image_size {self.image_size} is not a multiple of 32")
        return self


def _vision_type(value: Any) -> str:
    if isinstance(value, dict):
        patches = "patch_size" in value or isinstance(value.get("layers"), int)
        return "VisionTransformerConfig" if patches else "ModifiedResNetConfig"
    return type(value).__name__


VisionConfig = Annotated[
    Annotated[VisionTransformerConfig, Tag("VisionTransformerConfig")]
    | Annotated[ModifiedResNetConfig, Tag("ModifiedResNetConfig")],
    Discriminator(_vision_type),
]


class TextConfig(Settings):
    """The text tower: a causal transformer read at the end-of-text token."""

    kind: Literal["transformer"] = "transformer"
    context_length: PositiveInt = 77
    vocab_size: PositiveInt = 49408
    width: PositiveInt = 512
    layers: PositiveInt = 12
    heads: PositiveInt = 8

    @model_validator(mode="after")
    def _check(self) -> TextConfig:
        _check_heads(self.width, self.heads)
        return self


class BagOfWordsConfig(Settings):
    """A text tower that knows words and not their order (paper section 2.3, figure 2)."""

    kind: Literal["bag_of_words"] = "bag_of_words"
    context_length: PositiveInt = 77
    vocab_size: PositiveInt = 49408
    width: PositiveInt = 512


def _text_type(value: Any) -> str:
    if isinstance(value, dict):
        return "BagOfWordsConfig" if value.get("kind") == "bag_of_words" else "TextConfig"
    return type(value).__name__


AnyTextConfig = Annotated[
    Annotated[TextConfig, Tag("TextConfig")] | Annotated[BagOfWordsConfig, Tag("BagOfWordsConfig")],
    Discriminator(_text_type),
]


class CLIPConfig(Settings):
    """Both towers, the space where they meet and the temperature."""

    embed_dim: PositiveInt
    vision: VisionConfig
    text: AnyTextConfig = Field(default_factory=TextConfig)
    activation: Activation = "quick_gelu"
    objective: Objective = "contrastive"
    """Follows from loss.form where a run is configured. The weights have the same names and shapes
    for every objective."""
    projection: Literal["linear", "mlp"] = "linear"
    """How a tower's features come into the shared space: the paper's linear projection, or one with
    a hidden layer (section 2.3), for contrastive models only."""
    init_temperature: float = Field(default=0.07, gt=0)
    """Start of the learnable temperature; logit_scale starts at its inverse (section 2.5)."""
    init_logit_bias: float | None = None
    """Start of a learnable bias of the logits; None for the paper's models, which have none."""

    @property
    def text_transformer(self) -> TextConfig:
        """The text tower's settings, where it is a transformer.

        Raises:
            ConfigError: it is a bag of words.
        """
        if not isinstance(self.text, TextConfig):
            raise ConfigError(
                "the text tower is a bag of words, and only a transformer will do here: train one "
                "with model.text.kind=transformer"
            )
        return self.text

    @model_validator(mode="after")
    def _check(self) -> CLIPConfig:
        needed = {"bag_of_words": "bag_of_words", "caption": "transformer"}.get(self.objective)
        if needed and self.text.kind != needed:
            raise ValueError(
                f"a model that predicts {PREDICTED[self.objective]} needs "
                f"model.text.kind={needed}, got {self.text.kind}"
            )
        if self.projection != "linear" and self.objective != "contrastive":
            raise ValueError(
                f"projection={self.projection} leads into the space of a contrastive objective, "
                f"and this model predicts {PREDICTED[self.objective]}: leave model.projection out"
            )
        return self


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}")
