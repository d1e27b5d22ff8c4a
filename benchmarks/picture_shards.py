"""Shards of real photographs at the sizes that data sets come in, for benchmarks to read."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from bifocal.data.decode import to_rgb

Pair = tuple[bytes, bytes]
"""A JPEG and its caption."""


def photographs(place: Path) -> list[Pair]:
    """Return the JPEGs and captions of a shard, or of the shards of a folder."""
    pairs = []
    for path in sorted(place.glob("*.tar")) if place.is_dir() else [place]:
        with tarfile.open(path) as archive:
            parts = {m.name: archive.extractfile(m) for m in archive if m.isfile()}
            for name, part in parts.items():
                text = parts.get(f"{name.removesuffix('.jpg')}.txt")
                if name.endswith(".jpg") and part and text:
                    pairs.append((part.read(), text.read()))
    if not pairs:
        raise SystemExit(f"no photographs in {place}: name a shard with --photographs")
    return pairs


def write_shards(folder: Path, pairs: Sequence[Pair], size: int, count: int) -> list[Path]:
    """Return `count` shards of `size` pairs; pairs come again as often as needed."""
    folder.mkdir(parents=True)
    paths = [folder / f"{n:06d}.tar" for n in range(count)]
    supply = enumerate(itertools.cycle(pairs))
    for path in paths:
        with tarfile.open(path, "w") as archive:
            for n, pair in itertools.islice(supply, size):
                for suffix, part in zip(("jpg", "txt"), pair, strict=True):
                    header = tarfile.TarInfo(f"{n:09d}.{suffix}")
                    header.size = len(part)
                    archive.addfile(header, io.BytesIO(part))
    return paths


def shorter_256(encoded: bytes) -> bytes:
    """Return a picture as img2dataset stores it: shorter side 256, quality 95."""
    image = to_rgb(Image.open(io.BytesIO(encoded)))
    scale = 256 / min(image.size)
    size = (max(256, round(image.width * scale)), max(256, round(image.height * scale)))
    return _jpeg(image.resize(size, Image.Resampling.LANCZOS), 95)


def vga(encoded: bytes) -> bytes:
    """Return the middle of a picture as 640 by 480, quality 90."""
    image = to_rgb(Image.open(io.BytesIO(encoded)))
    scale = max(640 / image.width, 480 / image.height)
    width, height = 640 / scale, 480 / scale
    left, top = max(0.0, image.width - width) / 2, max(0.0, image.height - height) / 2
    box = (left, top, min(left + width, image.width), min(top + height, image.height))
    return _jpeg(image.resize((640, 480), Image.Resampling.BICUBIC, box), 90)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "as they are": lambda encoded: encoded,
    "shorter side 256": shorter_256,
    "640 by 480": vga,
}
