"""Pictures inside the page.

Knows: how a uint8 array becomes an `<img>` without a second file. Must not know: what it shows.
"""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bifocal.report.markup import Html, data_uri, element

Picture = UInt8[np.ndarray, "height width 3"]


def picture(image: Picture, description: str, side: int = 224) -> Html:
    """Return an `<img>` of at most `side` pixels a side, as JPEG inside the page.

    Args:
        image: Red, green, blue.
        description: What a reader who cannot see it is told.
        side: Longest side in pixels; twice the size on screen looks sharp everywhere.
    """
    shrunk = as_image(image)
    shrunk.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shrunk.save(buffer, format="JPEG", quality=86, optimize=True)
    return element(
        "img",
        src=data_uri(buffer.getvalue(), "image/jpeg"),
        alt=description,
        width=shrunk.width,
        height=shrunk.height,
        loading="lazy",
        decoding="async",
    )


def thumbnail(image: Picture, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return the central square of a picture, resized to `side` by `side`."""
    opened = as_image(image)
    edge = min(opened.size)
    left, top = (opened.width - edge) // 2, (opened.height - edge) // 2
    square = opened.crop((left, top, left + edge, top + edge))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def as_image(image: Picture) -> Image.Image:
    """Return a new Pillow image of a uint8 "height width 3" array."""
    assert image.ndim == 3, f"a picture is height width 3, got {image.shape}"
    assert image.shape[2] == 3, f"a picture is height width 3, got {image.shape}"
    assert image.dtype == np.uint8, f"a picture is uint8, got {image.dtype}"
    return Image.fromarray(np.ascontiguousarray(image))
