"""Encoded pictures become uint8 tensors.

JPEG goes through simplejpeg (libjpeg-turbo), everything else and every JPEG that it refuses
through Pillow, whose formats are limited to a list so that no file's name reaches an interpreter.
Knows nothing of sizes, crops or captions.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bifocal.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 1 << 28
"""A picture of more pixels is refused as a decompression bomb."""


def decode(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    """Return the picture as RGB; transparency is laid on white.

    Raises:
        DataError: the bytes are no picture of a known format, or a truncated or huge one. Its
            message is one of a few fixed reasons, so that skips can be counted by it.
    """
    if encoded[:2] == b"\xff\xd8":
        try:
            return to_tensor(simplejpeg.decode_jpeg(encoded, colorspace="RGB"))
        except ValueError:
            pass  # CMYK and damaged files: Pillow reads the first and names what ails the second
    return to_tensor(np.asarray(_pillow(encoded)))


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    """Return the same memory, channels first."""
    if not image.flags.writeable:
        image = image.copy()
    return torch.from_numpy(image).permute(2, 0, 1)


def _pillow(encoded: bytes) -> Image.Image:
    if not encoded:
        raise DataError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise DataError("too many pixels")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(white, image).convert("RGB")
            return image.convert("RGB")
    except Image.UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except Image.DecompressionBombError:
        raise DataError("too many pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError):
        raise DataError("truncated or damaged picture") from None
