"""Pictures as programs hold them: paths, Pillow's pictures and arrays, as RGB levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bifocal.data.decode import decode, to_rgb, to_tensor
from bifocal.errors import DataError

Picture = str | Path | Image.Image | UInt8[np.ndarray, "height width 3"]


def read_picture(picture: Picture) -> UInt8[Tensor, "3 height width"]:
    """Return a picture as RGB levels, a file turned as its EXIF orientation says.

    Raises:
        DataError: the file is missing or is no picture; the message names it.
    """
    match picture:
        case Image.Image():
            return to_tensor(np.array(to_rgb(picture)))
        case np.ndarray():
            return to_tensor(picture)
        case _:
            try:
                return decode(Path(picture).read_bytes())
            except OSError as error:
                raise DataError(f"cannot read the picture {picture}: {error.strerror}") from None
            except DataError as error:
                raise DataError(f"cannot read the picture {picture}: {error}") from None
