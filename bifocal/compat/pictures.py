"""Pillow pictures to normalised tensors, bit for bit as the peers' torchvision transforms.

bifocal's own preprocessing works on tensors and differs from Pillow's by up to two levels; a
drop-in face must not differ at all, so here Pillow resizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.inputs.preprocess import OPENAI_MEAN, OPENAI_STD

Statistics = tuple[float, float, float]
ResizeMode = Literal["shortest", "squash"]
ATTEMPTS = 10
"""Crops that are drawn before the whole picture is taken."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Evaluation: resize, crop the centre, normalise.

    Attributes:
        size: rows and columns of the result.
        mean: subtracted from each channel, on a scale of 0 to 1.
        std: divides each channel afterwards.
        resize_mode: "shortest" keeps the proportions and crops; "squash" does neither.
        resampling: Pillow's interpolation.
    """

    size: int
    mean: Statistics = OPENAI_MEAN
    std: Statistics = OPENAI_STD
    resize_mode: ResizeMode = "shortest"
    resampling: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, picture: Image.Image) -> Float[Tensor, "3 size size"]:
        """Return one picture as the model reads it."""
        return self.finish(self._fit(picture))

    def finish(self, picture: Image.Image) -> Float[Tensor, "3 size size"]:
        """Return a picture of the right size as a normalised tensor."""
        levels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return levels.float().div(255).sub_(mean).div_(std)

    def _fit(self, picture: Image.Image) -> Image.Image:
        size = self.size
        if self.resize_mode == "squash":
            return picture.resize((size, size), self.resampling)
        width, height = picture.size
        short = min(width, height)
        if short != size:
            shape = int(size * width / short), int(size * height / short)
            picture = picture.resize(shape, self.resampling)
        left, top = (round((side - size) / 2) for side in picture.size)
        return picture.crop((left, top, left + size, top + size))


@dataclass(frozen=True, slots=True)
class RandomTransform:
    """Training: a random part of the picture, resized; the numbers are torch's global ones.

    The global generator is the peers' interface (`torch.manual_seed`); bifocal's own training
    draws from keys instead.

    Attributes:
        finish: what follows the crop.
        scale: smallest and largest share of the area that is kept.
        ratio: smallest and largest width / height of the part.
    """

    finish: Transform
    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, picture: Image.Image) -> Float[Tensor, "3 size size"]:
        """Return a random part of one picture as the model reads it."""
        size = self.finish.size
        part = picture.crop(self._box(*picture.size))
        return self.finish.finish(part.resize((size, size), Image.Resampling.BICUBIC))

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        low, high = torch.log(torch.tensor(self.ratio)).tolist()
        for _ in range(ATTEMPTS):
            area = width * height * torch.empty(1).uniform_(*self.scale).item()
            aspect = torch.exp(torch.empty(1).uniform_(low, high)).item()
            columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < columns <= width and 0 < rows <= height:
                top = int(torch.randint(0, height - rows + 1, size=(1,)).item())
                left = int(torch.randint(0, width - columns + 1, size=(1,)).item())
                return left, top, left + columns, top + rows
        columns, rows = self._bounded(width, height)
        top, left = (height - rows) // 2, (width - columns) // 2
        return left, top, left + columns, top + rows

    def _bounded(self, width: int, height: int) -> tuple[int, int]:
        """Return the largest part whose proportions are allowed."""
        if width / height < self.ratio[0]:
            return width, round(width / self.ratio[0])
        if width / height > self.ratio[1]:
            return round(height * self.ratio[1]), height
        return width, height


def image_transform(
    image_size: int | tuple[int, int],
    is_train: bool,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    resize_mode: str | None = None,
    interpolation: str | None = None,
    aug_cfg: dict[str, Any] | None = None,
) -> Transform | RandomTransform:
    """Return the transform of pictures for training or evaluation.

    Raises:
        ConfigError: something is asked for that bifocal does not do.
    """
    size = image_size if isinstance(image_size, int) else image_size[0]
    square = isinstance(image_size, int) or set(image_size) == {size}
    mode, resampling = resize_mode or "shortest", (interpolation or "bicubic").upper()
    unknown = set(aug_cfg or {}) - {"scale", "ratio"}
    if not square or mode not in ("shortest", "squash") or unknown:
        raise ConfigError(
            f"no transform to {image_size} with resize_mode '{mode}' and {unknown or 'no'} further "
            "options: sizes are square, modes are shortest and squash, aug_cfg has scale and ratio"
        )
    evaluation = Transform(
        size,
        mean or OPENAI_MEAN,
        std or OPENAI_STD,
        "squash" if mode == "squash" else "shortest",
        Image.Resampling[resampling],
    )
    return RandomTransform(evaluation, **(aug_cfg or {})) if is_train else evaluation
