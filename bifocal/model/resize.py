"""Weights of a model for pictures of another size or captions of another length.

Knows which weights depend on either: the positional embeddings. Those of the pictures are stretched
as the maps that they are (paper section 2.5: ViT-L/14 "pre-trained at a higher 336 pixel resolution
for one additional epoch"; Dosovitskiy et al. 2021, section 3.2), by bicubic interpolation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.model.clip import TwoTowers

CAPTION_POSITIONS = "positional_embedding"
PICTURE_POSITIONS = ("visual.positional_embedding", "visual.attnpool.positional_embedding")


def fitted_state(state: Mapping[str, Tensor], model: TwoTowers) -> dict[str, Tensor]:
    """Return a state dict whose positional embeddings have the sizes that `model` expects.

    Everything else is left as it is, to be compared when it is loaded.

    Raises:
        ConfigError: the model reads longer captions than the weights know positions.
    """
    fitted = dict(state)
    expected = model.state_dict()
    for name in PICTURE_POSITIONS:
        if name in state and name in expected:
            fitted[name] = stretched(state[name], len(expected[name]))
    if CAPTION_POSITIONS in state and CAPTION_POSITIONS in expected:
        known, wanted = len(state[CAPTION_POSITIONS]), len(expected[CAPTION_POSITIONS])
        if wanted > known:
            raise ConfigError(
                f"captions of up to {wanted} tokens, but the weights know {known} positions: set "
                f"model.text.context_length to {known} or less"
            )
        fitted[CAPTION_POSITIONS] = state[CAPTION_POSITIONS][:wanted]
    return fitted


def stretched(
    positions: Float[Tensor, "places width"], count: int
) -> Float[Tensor, "wanted width"]:
    """Return a positional embedding of `count` places: the first as it is, the rest as a map.

    Args:
        positions: one for the class token or the mean, then those of a square map row by row.
        count: one more than a square number.
    """
    if count == len(positions):
        return positions
    old, new = round((len(positions) - 1) ** 0.5), round((count - 1) ** 0.5)
    assert (old**2 + 1, new**2 + 1) == (len(positions), count)
    as_map = positions[1:].T.reshape(1, -1, old, old).float()
    larger = F.interpolate(as_map, (new, new), mode="bicubic", antialias=True, align_corners=False)
    rest = larger.flatten(2)[0].T.to(positions.dtype)
    return torch.cat([positions[:1], rest])
