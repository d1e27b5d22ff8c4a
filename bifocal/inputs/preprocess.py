"""Pictures as the towers read them: resize, crop, normalise.

Paper section 2.5: training sees a random square crop of the resized picture and nothing else;
evaluation resizes the shorter side (bicubic, anti-aliased) and crops the centre. Pictures stay
uint8 until they are on the device. The arithmetic is torch's uint8 resize, within 2 levels of
Pillow's bicubic; knows nothing of files.

Pictures are copied by numpy, not by torch: a thread that decodes would wake all of torch's threads
for every copy, and the threads that train would wait for theirs.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from pydantic import Field, PositiveInt
from torch import Tensor

from bifocal.inputs.color import Factors, move_colors
from bifocal.settings import Settings
from bifocal.transfer import sent

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
RIBBON = 40
"""Longest side over shortest that is resized whole. A longer picture is cut to its middle, which
may then move by a part of a pixel; whole, it would fill the memory."""


class Preprocess(Settings):
    """What evaluation does to a picture; saved with the model."""

    image_size: PositiveInt = 224
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def fit(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 size size"]:
        """Return the centre square of the picture whose shorter side is resized to the size."""
        size = self.image_size
        short = min(image.shape[1:])
        # A ribbon is cut to its middle first: resized whole, it would fill the memory.
        top, left = (max(0, side - RIBBON * short) // 2 for side in image.shape[1:])
        height, width = (
            side - 2 * cut for side, cut in zip(image.shape[1:], (top, left), strict=True)
        )
        image = image[:, top : top + height, left : left + width]
        resized = resize(image, size * height // short, size * width // short)
        top, left = (round((side - size) / 2) for side in resized.shape[1:])
        return resized[:, top : top + size, left : left + size]

    def normalize(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, ...]:
        """Return (x / 255 - mean) / std in float32, on the device where the pictures are."""
        mean, std = (
            sent(torch.tensor(levels).view(3, 1, 1) * 255, images.device)
            for levels in (self.mean, self.std)
        )
        return (images.float() - mean) / std


class Augment(Settings):
    """What training does to a picture. The defaults are the paper's."""

    min_area: float = Field(default=1.0, gt=0, le=1)
    """Smallest share of the largest square that the random crop may cut out."""
    horizontal_flip: bool = False
    """Mirror every second picture. Off where captions speak of left and right."""
    color_jitter: float = Field(default=0.0, ge=0, le=1)
    """Multiply brightness, contrast and saturation of a picture each by its own factor between 1
    minus this and 1 plus this; 0 leaves colours, of which captions may speak."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The random numbers of one sample, each uniform in [0, 1)."""

    area: float
    x: float
    y: float
    flip: float
    caption: float

    @property
    def colors(self) -> tuple[float, float, float]:
        """Three more, for brightness, contrast and saturation: a hash of the others.

        They are computed when they are asked for, so that pictures whose colours stay cost nothing.
        """
        others = struct.pack("<5d", self.area, self.x, self.y, self.flip, self.caption)
        words = struct.unpack("<3Q", hashlib.blake2b(others, digest_size=24).digest())
        brightness, contrast, saturation = ((word >> 11) * 2.0**-53 for word in words)
        return brightness, contrast, saturation


def random_crop(
    image: UInt8[Tensor, "3 height width"], size: int, augment: Augment, draw: Draw
) -> UInt8[Tensor, "3 size size"]:
    """Return a random square of the picture, resized to `size`, perhaps mirrored and recoloured.

    The square covers between `min_area` and all of the largest one that fits; with
    `min_area = 1` this is the random crop along the longer side of the resized picture. Colours
    are those of the square: its own mean luminance decides its contrast.
    """
    height, width = image.shape[1:]
    side = max(1, round(min(height, width) * _share(augment, draw) ** 0.5))
    top = int(draw.y * (height - side + 1))
    left = int(draw.x * (width - side + 1))
    square = resize(image[:, top : top + side, left : left + side], size, size)
    if augment.horizontal_flip and draw.flip < 0.5:
        square = torch.from_numpy(square.numpy()[:, :, ::-1].copy())
    if augment.color_jitter:
        factors = (1 + augment.color_jitter * (2 * u - 1) for u in draw.colors)
        return move_colors(square, Factors(*factors))
    return square


def shorter_side(size: int, augment: Augment, draw: Draw) -> int:
    """Return how long a picture's shorter side must be for its crop not to be enlarged.

    Of a picture that is reduced to no less before it is cropped, `random_crop` returns the same
    square to within a pixel of the reduced picture.
    """
    return math.ceil(size / _share(augment, draw) ** 0.5)


def resize(
    image: UInt8[Tensor, "3 height width"], rows: int, columns: int
) -> UInt8[Tensor, "3 rows columns"]:
    """Return the picture resized by anti-aliased bicubic interpolation.

    At its own size it is returned as it is; else channels come first in memory.
    """
    if image.shape[1:] == (rows, columns):
        return image
    pixels = image[None]
    if image.stride(0) == 1:
        # Channels lie last, as decoders leave them. Whole and with the strides of a batch, they
        # are what torch's kernel reads without a copy of its own.
        whole = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        pixels = torch.from_numpy(whole)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(
        pixels, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.from_numpy(np.ascontiguousarray(resized[0].numpy()))


def _share(augment: Augment, draw: Draw) -> float:
    """Return the share of the largest square that a crop covers."""
    return augment.min_area + (1 - augment.min_area) * draw.area
