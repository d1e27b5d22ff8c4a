"""Encoded pictures become uint8 tensors.

JPEG goes through simplejpeg (libjpeg-turbo), everything else and what that refuses through Pillow,
whose formats are limited to a list so that no file's name reaches an interpreter. Knows nothing of
sizes, crops or captions.

What a file may hold, and what comes of it:

    transparency        laid on white (Pillow's convert("RGB") shows the colours that it hides)
    several frames      the first
    orientation (EXIF)  turned as a viewer shows it, unless `upright` is false; the peers,
                        openai/CLIP and open_clip, read pictures as they are stored
    grey of 16 bits     its upper 8 bits (convert("RGB") cuts all but the darkest to white)
    floats, long ints   0 to 1 and 0 to 255 as they are; any other range is stretched to 8 bits
    damaged JPEG data   an error, where libjpeg notices it (Pillow fills the rest with grey)

A JPEG may be read at 1/2, 1/4 or 1/8 of its size (`shorter_side`): each block of 8 by 8 pixels then
becomes 4 by 4, 2 by 2 or 1 from its lowest frequencies, at about the mean of the pixels that it
stands for. What is thrown away is never computed; the bytes must be read all the same.
"""

from __future__ import annotations

import io
import re
import threading
import warnings

import numpy as np
import simplejpeg
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor

from bifocal.data.orientation import jpeg_orientation, orientation, turn
from bifocal.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 178_956_970
"""A picture of more pixels is refused as a decompression bomb: Pillow's bound, for JPEG too."""
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError)
"""What Pillow's parsers raise on damage: a TIFF whose tags changed type ends in a TypeError."""
DAMAGED = "truncated or damaged picture"
TOO_LARGE = "too many pixels"

REDUCTIONS = (8, 4, 2)

_LOST_DATA = re.compile(r"premature end|bad (Huffman|arithmetic) code|(\d\d+) extraneous bytes")
"""What libjpeg says of data that are not the picture's; it also warns of harmless oddities."""


class Scratch(threading.local):
    """Memory that JPEGs are decoded into, of each thread its own.

    Memory taken for every picture is taken from the system and cleared by it every time, which
    costs up to half of what decoding does.
    """

    LARGEST = 1 << 25
    """Bytes that are kept; a larger picture gets memory of its own."""

    def __init__(self) -> None:
        # The system gives memory as it is written to, so that this costs what pictures have used.
        self._pixels = np.empty(self.LARGEST, dtype=np.uint8)

    def room(self, size: int) -> UInt8[np.ndarray, " size"]:
        """Return `size` bytes, which the next call hands out again."""
        return self._pixels[:size] if size <= self.LARGEST else np.empty(size, dtype=np.uint8)


def decode(
    encoded: bytes, upright: bool = True, *, shorter_side: int = 0, scratch: Scratch | None = None
) -> UInt8[Tensor, "3 height width"]:
    """Return the picture as RGB; transparency is laid on white.

    Args:
        encoded: the contents of a file.
        upright: turn the picture as its EXIF orientation says.
        shorter_side: pixels that must be left of the shorter side; a JPEG is reduced by the
            largest power of two that leaves them. 0 reads it whole, as it is in the file.
        scratch: where a picture may lie until the thread decodes its next one.

    Raises:
        DataError: the bytes are no picture of a known format, or a truncated or huge one. Its
            message is one of a few fixed reasons, so that skips can be counted by it.
    """
    if not encoded:
        raise DataError("empty file")
    is_jpeg = encoded[:2] == b"\xff\xd8"
    image = _jpeg(encoded, shorter_side, scratch) if is_jpeg else None
    if image is None:
        image, seen_as = _pillow(encoded)
    else:
        seen_as = jpeg_orientation(encoded)
    return to_tensor(turn(image, seen_as) if upright else image)


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    """Return the same memory, channels first."""
    if not image.flags.writeable:
        image = image.copy()
    return torch.from_numpy(image).permute(2, 0, 1)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB: transparency on white, more than 8 bits as 8."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(
    levels: Shaped[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height width"]:
    finite = np.isfinite(levels)
    if not finite.any():
        raise DataError(DAMAGED)
    low, high = float(levels[finite].min()), float(levels[finite].max())
    if low >= 0 and high <= 255:
        is_share = high <= 1 and levels.dtype.kind == "f"
        low, high = 0.0, 1.0 if is_share else 255.0
    elif low >= 0 and high <= 65_535 and levels.dtype.kind == "i":
        low, high = 0.0, 65_535.0
    known = np.nan_to_num(levels.astype(np.float64), nan=low, posinf=high, neginf=low)
    return ((known - low) / (high - low or 1.0) * 255 + 0.5).astype(np.uint8)


def _jpeg(
    encoded: bytes, shorter_side: int, scratch: Scratch | None
) -> UInt8[np.ndarray, "height width 3"] | None:
    """Return a JPEG's pixels, or None where Pillow shall decide."""
    try:
        height, width = map(int, simplejpeg.decode_jpeg_header(encoded)[:2])
        if height * width > MAX_PIXELS:
            raise DataError(TOO_LARGE)
        by = _reduction(min(height, width), shorter_side)
        rows, columns = -(-height // by), -(-width // by)
        return simplejpeg.decode_jpeg(
            encoded,
            colorspace="RGB",
            min_height=rows,
            min_width=columns,
            min_factor=by,
            buffer=None if scratch is None else scratch.room(rows * columns * 3),
        )
    except ValueError as error:
        # CMYK and harmless oddities are Pillow's to read; it also names what ails the rest.
        if _LOST_DATA.search(str(error)):
            raise DataError(DAMAGED) from None
        return None


def _reduction(side: int, least: int) -> int:
    """Return the largest power of two up to 8 that leaves `least` pixels of a side."""
    return next((by for by in REDUCTIONS if least and -(-side // by) >= least), 1)


def _pillow(encoded: bytes) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
    """Return pixels and how they are meant to be seen; Pillow turns a TIFF by itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            pixels = np.asarray(to_rgb(image))
            exif = image.info.get("exif")
    except Image.UnidentifiedImageError:
        raise DataError("not a picture of a known format") from None
    except Image.DecompressionBombError:
        raise DataError(TOO_LARGE) from None
    except DAMAGE:
        raise DataError(DAMAGED) from None
    if image.format == "TIFF" or not isinstance(exif, bytes):
        return pixels, 1
    return pixels, orientation(exif)
