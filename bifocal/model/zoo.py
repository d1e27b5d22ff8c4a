"""Every architecture with a name: the nine published ones and small ones for a CPU.

Sizes of the published models: paper tables 19 and 20. The small ones are bifocal's own; how they
were chosen stands in docs/log.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from bifocal.errors import ConfigError, did_you_mean
from bifocal.model.clip import CLIP
from bifocal.model.config import (
    HEAD_WIDTH,
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)

ONE_BLOCK_A_STAGE = (1, 1, 1, 1)


def _resnet(
    layers: tuple[int, int, int, int], width: int, image_size: int, embed_dim: int, text: TextConfig
) -> CLIPConfig:
    vision = ModifiedResNetConfig(
        image_size=image_size,
        width=width,
        layers=layers,
        heads=width * 32 // HEAD_WIDTH,
        init_residual_gain=float(layers == ONE_BLOCK_A_STAGE),
    )
    return CLIPConfig(embed_dim=embed_dim, vision=vision, text=text)


def _vit(
    layers: int, width: int, patch_size: int, image_size: int, embed_dim: int, text: TextConfig
) -> CLIPConfig:
    vision = VisionTransformerConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=layers,
        heads=width // HEAD_WIDTH,
    )
    return CLIPConfig(embed_dim=embed_dim, vision=vision, text=text)


def _text(width: int, layers: int = 12, context_length: int = 77, vocab_size: int = 49408):
    return TextConfig(
        width=width,
        layers=layers,
        heads=width // HEAD_WIDTH,
        context_length=context_length,
        vocab_size=vocab_size,
    )


PUBLISHED: dict[str, CLIPConfig] = {
    "RN50": _resnet((3, 4, 6, 3), 64, 224, 1024, _text(512)),
    "RN101": _resnet((3, 4, 23, 3), 64, 224, 512, _text(512)),
    "RN50x4": _resnet((4, 6, 10, 6), 80, 288, 640, _text(640)),
    "RN50x16": _resnet((6, 8, 18, 8), 96, 384, 768, _text(768)),
    "RN50x64": _resnet((3, 15, 36, 10), 128, 448, 1024, _text(1024)),
    "ViT-B/32": _vit(12, 768, 32, 224, 512, _text(512)),
    "ViT-B/16": _vit(12, 768, 16, 224, 512, _text(512)),
    "ViT-L/14": _vit(24, 1024, 14, 224, 768, _text(768)),
    "ViT-L/14@336px": _vit(24, 1024, 14, 336, 768, _text(768)),
}
"""The nine models of the paper, by OpenAI's names."""

LEARNING_RATES: dict[str, float] = {
    "RN50": 5e-4,
    "RN101": 5e-4,
    "RN50x4": 5e-4,
    "RN50x16": 4e-4,
    "RN50x64": 3.6e-4,
    "ViT-B/32": 5e-4,
    "ViT-B/16": 5e-4,
    "ViT-L/14": 4e-4,
    "ViT-L/14@336px": 2e-5,
}
"""Peak learning rates at a batch of 32,768: paper tables 19 and 20."""

_CPU_TEXT = _text(128, layers=2, context_length=32, vocab_size=4096)

SMALL: dict[str, CLIPConfig] = {
    "RN-nano": _resnet(ONE_BLOCK_A_STAGE, 16, 64, 128, _CPU_TEXT),
    "RN-micro": _resnet(ONE_BLOCK_A_STAGE, 24, 64, 256, _CPU_TEXT),
    "ViT-nano/8": _vit(6, 192, 8, 64, 128, _CPU_TEXT),
}
"""Architectures that train on a CPU in minutes; their vocabulary is the user's own."""


def names() -> tuple[str, ...]:
    """Return every known name, the published ones first."""
    return (*PUBLISHED, *SMALL)


def config(name: str) -> CLIPConfig:
    """Return the architecture of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    found = PUBLISHED.get(name) or SMALL.get(name)
    if found is None:
        hint = did_you_mean(name, names()) or f": known are {', '.join(names())}"
        raise ConfigError(f"no architecture is named '{name}'{hint}")
    return found


@dataclass(frozen=True, slots=True)
class Size:
    """What an architecture weighs."""

    visual_parameters: int
    total_parameters: int
    gflops: float
    """10⁹ multiplications and additions of one forward pass of one pair at full context."""


def measure(architecture: CLIPConfig) -> Size:
    """Count parameters and FLOPs without allocating a weight."""
    with torch.device("meta"):
        model = CLIP(architecture).eval()
        size = architecture.vision.image_size
        images = torch.empty(1, 3, size, size)
        tokens = torch.empty(1, architecture.text.context_length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images, tokens)
    return Size(
        visual_parameters=sum(p.numel() for p in model.visual.parameters()),
        total_parameters=sum(p.numel() for p in model.parameters()),
        gflops=counter.get_total_flops() / 1e9,
    )
