"""Encoded pictures, and what is read of them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from bifocal.data.decode import decode
from bifocal.errors import DataError

REASONS = (
    "",
    "empty file",
    "too many pixels",
    "not a picture of a known format",
    "truncated or damaged picture",
)


def scene(width: int = 37, height: int = 29) -> np.ndarray:
    """Smooth colours with an edge, as a photograph has them."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(x / 7), 128 + 100 * np.cos(y / 5 + x / 11), (x > y) * 200.0]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def ours(encoded: bytes) -> np.ndarray:
    image = decode(encoded)
    assert image.dtype == torch.uint8
    return image.numpy().transpose(1, 2, 0)


def outcome(encoded: bytes) -> str:
    """Return why the bytes are no picture; nothing if they are one."""
    try:
        assert decode(encoded).numel() > 0
    except DataError as error:
        return str(error)
    return ""
