"""Colours of a training picture, moved at random (Howard 2013, arXiv 1312.5402).

Three steps in this order, each a blend of the picture with something greyer, cut to 0…255 and to
whole levels before the next:

    brightness   b x                     the other is black
    contrast     m + c (x - m)           m the picture's mean luminance, to the nearest level
    saturation   l + s (x - l)           l each pixel's own luminance

with ITU-R 601's luminance, 0.299 R + 0.587 G + 0.114 B. This is the arithmetic of Pillow's
ImageEnhance, level by level. Knows pictures in memory; knows nothing of where numbers come from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

_WEIGHTS = (19595, 38470, 7471)
"""ITU-R 601's, in 65,536ths."""
_BITS = 16


class Factors(NamedTuple):
    """By how much each is multiplied; 1 leaves it, 0 takes it away."""

    brightness: float
    contrast: float
    saturation: float


def move_colors(
    image: UInt8[Tensor, "3 height width"], factors: Factors
) -> UInt8[Tensor, "3 height width"]:
    """Return the picture with its brightness, contrast and saturation multiplied, in this order."""
    pixels = _blend(np.float32(0), image.numpy(), factors.brightness)
    mean = np.float32(int(_luminance(pixels).mean(dtype=np.float64) + 0.5))
    pixels = _blend(mean, pixels, factors.contrast)
    grey = _luminance(pixels).astype(np.float32)
    return torch.from_numpy(_blend(grey, pixels, factors.saturation))


def _blend(
    other: np.float32 | Float32[np.ndarray, "height width"],
    pixels: UInt8[np.ndarray, "3 height width"],
    factor: float,
) -> UInt8[np.ndarray, "3 height width"]:
    """Return other + factor (pixels - other), in levels."""
    blended = pixels.astype(np.float32)
    blended -= other
    blended *= np.float32(factor)
    blended += other
    return blended.clip(0, 255, out=blended).astype(np.uint8)


def _luminance(pixels: UInt8[np.ndarray, "3 height width"]) -> UInt8[np.ndarray, "height width"]:
    """Return how bright each pixel is, to the nearest level."""
    red, green, blue = (
        np.multiply(channel, weight, dtype=np.int32)
        for channel, weight in zip(pixels, _WEIGHTS, strict=True)
    )
    return (red + green + blue + (1 << (_BITS - 1)) >> _BITS).astype(np.uint8)
