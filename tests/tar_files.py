"""Small archives, and what is read of them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from bifocal.data.archive import Member, Reader
from bifocal.data.captions import CaptionReader
from bifocal.data.shards import ShardSource
from bifocal.data.tar import members

KINDS = ("jpg", "txt")

FILES = {f"{n:03d}.{kind}": bytes([n]) * (n * 97 % 1600) for n in range(12) for kind in KINDS}

LONG = {f"{'folder/' * 20}{n}-{'x' * 90}.jpg": bytes([n]) * 700 for n in range(3)} | {
    "short.txt": b"a",
    f"{'é' * 120}.txt": b"b",
}

HOUR_AGO = 3600


def write(path: Path, files: dict[str, bytes], **options: int) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def read_all(path: Path) -> dict[str, bytes]:
    reader = Reader(path)
    return {member.name: reader.read(member) for member in members(path)}


def by_tarfile(path: Path) -> list[Member]:
    with tarfile.open(path) as archive:
        return [Member(m.name, m.offset_data, m.size) for m in archive if m.isreg()]


def shard(path: Path, *keys: str, text: bytes = b"text", age: float = HOUR_AGO) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key in keys:
            for name, data in ((f"{key}.jpg", b"picture of " + key.encode()), (f"{key}.txt", text)):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def shards(folder: Path, count: int = 3) -> list[Path]:
    return [shard(folder / f"{n}.tar", *(f"{n}-{m}" for m in range(n + 2))) for n in range(count)]


def source(paths: list[Path]) -> ShardSource:
    return ShardSource(paths, CaptionReader())


def everything(found: ShardSource) -> list[tuple[str, object, tuple[str, ...]]]:
    samples = [found.read(n) for n in range(len(found))]
    return [(sample.key, sample.image, sample.captions) for sample in samples]
