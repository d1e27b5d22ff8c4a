"""Pictures resized by Pillow, as every peer does it.

Bit for bit what torchvision's transforms make of a Pillow picture, where bifocal's own resize
differs by up to two levels; for figures that must equal a peer's to the last example.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bifocal.inputs.preprocess import Preprocess


class PillowPreprocess(Preprocess):
    """What evaluation does to a picture, the resize being Pillow's bicubic."""

    resize: Literal["pillow"] = "pillow"

    def fit(self, image: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 size size"]:
        """Return the centre square of the picture whose shorter side is resized to the size."""
        size = self.image_size
        height, width = image.shape[1:]
        short = min(height, width)
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        if short != size:
            shape = int(size * width / short), int(size * height / short)
            picture = picture.resize(shape, Image.Resampling.BICUBIC)
        left, top = (round((side - size) / 2) for side in picture.size)
        picture = picture.crop((left, top, left + size, top + size))
        levels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return levels.view(size, size, 3).permute(2, 0, 1)
