"""The architecture that OpenAI's layout spells out in the shapes of its weights.

OpenAI's `build_model` reads every size from its state dict: widths, depths, patches and contexts
from shapes, the number of heads as width / 64 (paper section 2.4 and tables 19-20). Only the
activation leaves no trace in weights. Knows names and shapes; reads no file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from bifocal.errors import CheckpointError, ConfigError
from bifocal.model.config import (
    HEAD_WIDTH,
    Activation,
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)
from bifocal.settings import build

RESNET_STRIDE = 32
"""Pixels of a picture to one row of the last feature map."""


def infer(state: Mapping[str, Tensor], activation: Activation) -> CLIPConfig:
    """Return the architecture of weights in OpenAI's layout.

    Args:
        state: weights under OpenAI's names.
        activation: what the blocks use; the weights cannot say.

    Raises:
        CheckpointError: a weight is missing, or the sizes contradict each other.
    """
    try:
        vision = _vit(state) if "visual.proj" in state else _resnet(state)
        bias = state.get("logit_bias")
        table = {
            "embed_dim": state["text_projection"].shape[1],
            "vision": vision,
            "text": _text(state),
            "activation": activation,
            "init_logit_bias": None if bias is None else float(bias),
        }
        return build(CLIPConfig, table, "the shapes of the weights")
    except KeyError as error:
        raise CheckpointError(f"no weight named {error}: this is not OpenAI's layout") from None
    except (ConfigError, ValueError, IndexError) as error:
        raise CheckpointError(f"cannot read the architecture from the weights: {error}") from None


def heads(width: int) -> int:
    """Return the heads of a published tower: one to 64 channels.

    Raises:
        CheckpointError: the width does not divide, so that the heads are not to be known.
    """
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"a width of {width} is not a multiple of {HEAD_WIDTH}, so the number of heads is not "
            "written in the weights: name the architecture, or give a folder with a configuration"
        )
    return width // HEAD_WIDTH


def _text(state: Mapping[str, Tensor]) -> TextConfig:
    context_length, width = state["positional_embedding"].shape
    return TextConfig(
        context_length=context_length,
        vocab_size=state["token_embedding.weight"].shape[0],
        width=width,
        layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
        heads=heads(width),
    )


def _vit(state: Mapping[str, Tensor]) -> VisionTransformerConfig:
    width, _, patch_size, _ = state["visual.conv1.weight"].shape
    grid = _side(state["visual.positional_embedding"].shape[0])
    return VisionTransformerConfig(
        image_size=grid * patch_size,
        patch_size=patch_size,
        width=width,
        layers=_count(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        heads=heads(width),
    )


def _resnet(state: Mapping[str, Tensor]) -> ModifiedResNetConfig:
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    one, two, three, four = (_count(state, rf"visual\.layer{n}\.(\d+)\.") for n in range(1, 5))
    return ModifiedResNetConfig(
        image_size=_side(state["visual.attnpool.positional_embedding"].shape[0]) * RESNET_STRIDE,
        width=width,
        layers=(one, two, three, four),
        heads=heads(width * RESNET_STRIDE),
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {match[1] for name in state if (match := re.match(pattern, name))}
    return len(found)


def _side(positions: int) -> int:
    """Return the rows of a square of `positions` - 1 places; the other one is the class token's."""
    side = math.isqrt(positions - 1)
    if side * side != positions - 1:
        raise CheckpointError(f"{positions - 1} positions make no square: only those are read")
    return side
