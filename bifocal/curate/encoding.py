"""One sample as the files of a shard: its picture, smaller or in another format, and its texts.

The name is a hash of the content, so that equal samples have equal names. Knows samples and
formats; knows nothing of archives.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Literal

import simplejpeg
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from bifocal.data.decode import decode, to_tensor
from bifocal.data.sample import Sample
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.preprocess import resize

Format = Literal["keep", "jpeg", "webp", "png"]
QUALITY = 90
PICTURE_DIGITS, TEXT_DIGITS = 20, 12
"""Hexadecimal digits of a name: of the picture's hash, and of that of captions and label."""

_SUFFIXES = {"jpeg": "jpg", "webp": "webp", "png": "png"}
_STARTS = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are kept.

    A picture's bytes stay as they are if it is small enough and of the wanted format, unless a
    quality is asked for.

    Attributes:
        size: pixels of the shorter side at most; 0 for any.
        format: of the files. `keep` leaves JPEG, PNG and WebP what they are when they shrink, and
            makes PNG of the rest and of pictures that never were files.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        ConfigError: a value is out of range.
    """

    size: int = 0
    format: Format = "keep"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"a size of {self.size}: give the pixels of the shorter side, as 256")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"a quality of {self.quality}: give one from 1 to 100, as 90")
        if self.quality is not None and self.format in ("keep", "png"):
            raise ConfigError(
                f"a quality does not go with the format '{self.format}': add --format jpeg or "
                "--format webp"
            )


@dataclass(frozen=True, slots=True)
class Packed:
    """The files of a sample.

    Attributes:
        picture: hash (hex) of the picture's bytes.
        texts: hash (hex) of captions and label.
        files: suffix and bytes of each.
    """

    picture: str
    texts: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def name(self) -> str:
        """The name that the files share."""
        return f"{self.picture}-{self.texts}"


def pack_sample(sample: Sample, encoding: Encoding) -> Packed:
    """Return the files of a sample.

    Raises:
        DataError: its picture cannot be decoded, or nothing is said of it.
    """
    if not sample.captions and sample.label is None:
        raise DataError("no caption")
    suffix, picture = _picture(sample, encoding)
    texts = list(_texts(sample))
    digest = hashlib.blake2b()
    for kind, text in texts:
        digest.update(f"{kind} {len(text)};".encode() + text)
    return Packed(
        hashlib.blake2b(picture).hexdigest()[:PICTURE_DIGITS],
        digest.hexdigest()[:TEXT_DIGITS],
        ((suffix, picture), *texts),
    )


def _texts(sample: Sample) -> list[tuple[str, bytes]]:
    files = []
    match sample.captions:
        case ():
            pass
        case (caption,):
            # A mark of byte order is eaten by whoever reads the file, unless there is another.
            mark = _BOM if caption.startswith(_BOM) else ""
            files.append(("txt", (mark + caption).encode()))
        case captions:
            table = {"captions": list(captions)}
            files.append(("json", json.dumps(table, ensure_ascii=False).encode()))
    if sample.label is not None:
        files.append(("cls", str(sample.label).encode()))
    return files


def _picture(sample: Sample, encoding: Encoding) -> tuple[str, bytes]:
    own = _suffix(sample.image) if isinstance(sample.image, bytes) else ""
    image = decode(sample.image) if isinstance(sample.image, bytes) else to_tensor(sample.image)
    wanted = own if encoding.format == "keep" else _SUFFIXES[encoding.format]
    smaller = _shrunk(image, encoding.size) if encoding.size else image
    fits = smaller is image and own == wanted and encoding.quality is None
    if isinstance(sample.image, bytes) and fits:
        return own, sample.image
    return _encoded(smaller, wanted, encoding.quality or QUALITY)


def _shrunk(image: UInt8[Tensor, "3 height width"], size: int) -> UInt8[Tensor, "3 rows columns"]:
    height, width = image.shape[1:]
    short = min(height, width)
    if short <= size:
        return image
    return resize(image, max(1, round(height * size / short)), max(1, round(width * size / short)))


def _encoded(
    image: UInt8[Tensor, "3 height width"], suffix: str, quality: int
) -> tuple[str, bytes]:
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    match suffix:
        case "jpg":
            try:
                return "jpg", simplejpeg.encode_jpeg(
                    pixels, quality, colorsubsampling="420", fastdct=False
                )
            except ValueError:
                raise DataError("too large for a JPEG") from None
        case "webp":
            try:
                Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=4)
            except (OSError, ValueError):
                raise DataError("too large for a WebP") from None
            return "webp", file.getvalue()
        case _:
            Image.fromarray(pixels).save(file, "PNG")
            return "png", file.getvalue()


def _suffix(encoded: bytes) -> str:
    """Return the suffix of a picture's format; what begins like none of these is a TIFF."""
    return next((suffix for start, suffix in _STARTS if encoded.startswith(start)), "tif")
