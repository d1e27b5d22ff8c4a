"""How a camera was held: the EXIF orientation of a picture, and the turn that undoes it.

The tag (0x0112, EXIF 2.3 section 4.6.4) says which side of the stored rows is the scene's top.
Damage reads as "as stored". Knows nothing of formats but where JPEG keeps its EXIF block.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

TAG = 0x0112
_EXIF = b"Exif\0\0"
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_MOST_ENTRIES = 512


def turn(
    image: UInt8[np.ndarray, "height width 3"], seen_as: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return a picture as it is meant to be seen.

    Args:
        image: as it is stored.
        seen_as: the tag's value, 1 (as stored) to 8.
    """
    if seen_as == 1:
        return image
    if seen_as in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if seen_as in (3, 4, 7, 8):
        image = image[::-1]
    if seen_as in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def jpeg_orientation(encoded: bytes) -> int:
    """Return the orientation of a JPEG from the segments before its first scan."""
    position = 2
    while encoded[position : position + 1] == b"\xff":
        marker = int.from_bytes(encoded[position + 1 : position + 2], "big")
        if marker in (_SCAN, _END):
            break
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        body = encoded[position + 4 : position + 2 + length]
        if marker == _APP1 and body.startswith(_EXIF):
            return orientation(body)
        position += 2 + max(length, 2)
    return 1


def orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 if it says none."""
    exif = exif.removeprefix(_EXIF)
    if exif[:2] not in (b"II", b"MM"):
        return 1
    order = "little" if exif[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    directory = number(4, 4)
    for n in range(min(number(directory, 2), _MOST_ENTRIES)):
        entry = directory + 2 + 12 * n
        if number(entry, 2) == TAG:
            found = number(entry + 8, 2)
            return found if 1 <= found <= 8 else 1
    return 1
