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
MAX_PIXELS = 178_956_970
"""A picture of more pixels is refused as a decompression bomb: Pillow's bound, for JPEG too."""
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError)
"""What Pillow's parsers raise on damage: a TIFF whose tags changed type ends in a TypeError."""


def decode(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    """Return the picture as RGB; transparency is laid on white.

    Raises:
        DataError: the bytes are no picture of a known format, or a truncated or huge one. Its
            message is one of a few fixed reasons, so that skips can be counted by it.
    """
    if encoded[:2] == b"\xff\xd8":
        try:
            height, width = simplejpeg.decode_jpeg_header(encoded)[:2]
            if int(height) * int(width) > MAX_PIXELS:
                raise DataError("too many pixels")
            return to_tensor(simplejpeg.decode_jpeg(encoded, colorspace="RGB"))
        except ValueError:
            pass  # CMYK and damaged files: Pillow reads the first and names what ails the second
    return to_tensor(np.asarray(_pillow(encoded)))


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    """Return the same memory, channels first."""
    if not image.flags.writeable:
        image = image.copy()
    return torch.from_numpy(image).permute(2, 0, 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, transparency on white, 16 bits of grey as 8."""
    if image.mode.startswith("I;16"):
        # Pillow would cut every shade above 255 to white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _pillow(encoded: bytes) -> Image.Image:
    if not encoded:
        raise DataError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            return to_rgb(image)
    except Image.UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except Image.DecompressionBombError:
        raise DataError("too many pixels") from None
    except DAMAGE:
        raise DataError("truncated or damaged picture") from None
