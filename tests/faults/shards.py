"""Pairs that can be recognised after damage, in archives."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from bifocal.data.captions import CaptionReader
from bifocal.data.decode import decode
from bifocal.data.shards import ShardSource
from bifocal.errors import DataError

SIDE = 16
Members = list[tuple[str, bytes]]


@cache
def picture(number: int, kind: str = "JPEG") -> bytes:
    """Return an encoded picture that no other number has."""
    levels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).resize((SIDE, SIDE)).save(file, kind)
    return file.getvalue()


def pair(number: int) -> Members:
    """Return the members of one pair."""
    caption = f"picture {number} of a thousand, number {number * 7919 % 1000}"
    return [(f"{number:06d}.jpg", picture(number)), (f"{number:06d}.txt", caption.encode())]


def archive(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return an archive of members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return file.getvalue()


def write_pairs(path: Path, count: int, first: int = 0) -> None:
    """Write a shard of pairs."""
    path.write_bytes(archive(one for n in range(first, first + count) for one in pair(n)))


class ReadBack:
    """What is read of a shard: whole pairs, changed ones, and what was said of the others.

    Attributes:
        whole: keys whose picture and caption are the bytes that were written.
        changed: keys that are read without complaint and are not.
        told: losses of the archive and reasons of bad samples.
    """

    def __init__(self, path: Path, numbers: Iterable[int]) -> None:
        source = ShardSource([path], CaptionReader())
        expected = {f"{n:06d}": pair(n) for n in numbers}
        self.whole: set[str] = set()
        self.changed: set[str] = set()
        self.told = Counter({reason: n for (_, reason), n in source.losses.items()})
        for index in range(len(source)):
            try:
                sample = source.read(index)
                assert isinstance(sample.image, bytes)
                decode(sample.image)
            except DataError as error:
                self.told[str(error)] += 1
                continue
            members = [sample.image, sample.captions[0].encode()]
            right = members == [data for _, data in expected.get(sample.key, [])]
            (self.whole if right else self.changed).add(sample.key)
