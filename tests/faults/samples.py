"""Pictures and captions of every unhappy kind among good ones, read as training reads them."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from faults.campaign import Outcome, fault
from faults.shards import Members, archive, pair
from PIL import Image

from bifocal.data.captions import CaptionReader
from bifocal.data.loader import Loader, Samples, Skips
from bifocal.data.plan import Plan
from bifocal.data.shards import ShardSource
from bifocal.inputs.preprocess import Augment, random_crop
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.world import World

DAMAGED, UNKNOWN = "truncated or damaged picture", "not a picture of a known format"
LARGE = "too many pixels"
GOOD = 40


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return a picture's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures(draw: random.Random) -> dict[str, list[tuple[bytes, str]]]:
    """Return, by kind, files and the reason that each must be skipped for; "" where it is read."""
    levels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (20, 30, 3), np.uint8)
    rgb = Image.fromarray(levels)
    jpeg, png = encoded(rgb, "JPEG"), encoded(rgb, "PNG")
    alpha = rgb.copy()
    alpha.putalpha(draw.randrange(256))
    ramp = np.linspace(0, 65535, 600).reshape(20, 30)
    frames = {"save_all": True, "append_images": [rgb.rotate(90 * n) for n in (1, 2)]}
    exifs = []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        exifs += [(encoded(rgb, kind, exif=exif), "") for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    cuts = [jpeg[: draw.randrange(200, len(jpeg) - 40)], png[: draw.randrange(60, len(png) - 40)]]
    palette = rgb.convert("P")
    return {
        "truncated": [(cut, DAMAGED) for cut in cuts],
        "CMYK": [(encoded(rgb.convert("CMYK"), kind), "") for kind in ("JPEG", "TIFF")],
        "16-bit grey": [(encoded(Image.fromarray(ramp.astype(np.uint16)), "PNG"), "")],
        "floating-point TIFF": [(encoded(Image.fromarray(ramp.astype(np.float32)), "TIFF"), "")],
        "palette": [(encoded(palette, kind), "") for kind in ("PNG", "GIF")],
        "alpha": [(encoded(alpha, kind), "") for kind in ("PNG", "WEBP")],
        "animated": [(encoded(rgb, kind, **frames), "") for kind in ("GIF", "WEBP", "PNG")],
        "turned by EXIF": exifs,
        "zero-size": [(b"", "empty file"), (zero_wide(), UNKNOWN)],
        "bomb-sized": [(bomb(), LARGE), (wide_jpeg(jpeg), LARGE)],
        "wrong extension": [(encoded(rgb, kind), "") for kind in ("PNG", "GIF", "WEBP", "BMP")],
        "no picture": [(draw.randbytes(500), UNKNOWN), (b"<svg/>", UNKNOWN), (b"{}", UNKNOWN)],
        "EPS named .jpg": [(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN)],
        "1 x 3000 and 3000 x 1": [
            (encoded(Image.new("RGB", shape), kind), "")
            for shape in ((1, 3000), (3000, 1))
            for kind in ("JPEG", "PNG")
        ],
    }


def zero_wide() -> bytes:
    """Return a PNG whose header says that it is no pixel wide."""
    return png_of(0, 9, b"")


def bomb() -> bytes:
    """Return a small PNG of 400 million pixels."""
    return png_of(20_000, 20_000, zlib.compress(bytes(60_000)))


def png_of(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG of one's own making."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wide_jpeg(raw: bytes) -> bytes:
    """Return a JPEG whose frame says 65,500 by 65,500."""
    at = raw.index(b"\xff\xc0") + 5
    return raw[:at] + struct.pack(">HH", 65_500, 65_500) + raw[at + 4 :]


def captions(draw: random.Random) -> dict[str, list[tuple[str, bytes, str]]]:
    """Return, by kind, a suffix, its contents and the reason; "" where the caption is read."""
    none, wrong = "no caption", "caption is not UTF-8"
    word = draw.choice(("word ", "x", "é", "&amp;", "\u200bab "))
    long = word * (2**20 // len(word.encode()))
    wrongs = (b"caf\xe9", "a cat".encode("utf-16"), b"\xff" * 9, b"a\xc0\x80", b"\xed\xa0\x80")
    return {
        "not UTF-8": [("txt", raw, wrong) for raw in wrongs],
        "with NUL": [("txt", b"a\0cat\0", ""), ("txt", b"\0\0", none)],
        "empty": [("txt", raw, none) for raw in (b"", b" \r\n\t", b"\xef\xbb\xbf")],
        "of a megabyte": [
            ("txt", long.encode(), ""),
            ("json", json.dumps({"caption": long}).encode(), ""),
        ],
    }


def train_on(folder: Path, odd: list[Members]) -> Skips:
    """Read batches of good pairs and odd ones, by threads, and return what was skipped."""
    good = [pair(n) for n in range(GOOD)]
    path = folder / f"{len(list(folder.iterdir()))}.tar"
    path.write_bytes(archive(one for members in good + odd for one in members))
    source = ShardSource([path], CaptionReader())
    assert len(source) == len(good) + len(odd)
    skips = Skips(1.0)
    samples = Samples(
        source,
        Plan(source, 0, shuffle=False),
        Tokenizer([("a", "b</w>")], context_length=16),
        lambda image, draw: random_crop(image, 16, Augment(), draw),
        skips,
    )
    batches = iter(Loader(samples, len(source), world=World(), threads=2))
    assert next(batches).images.shape == (len(source), 3, 16, 16)
    batches.close()
    return skips


def check(skips: Skips, reasons: list[str]) -> None:
    """Compare what was skipped, over the first batch and those read ahead, with what must be."""
    expected = {reason for reason in reasons if reason}
    found = {reason for _, reason in skips.counts}
    assert found == expected, (found, expected)


def of_kind(kind: str, reason: str, injected: int) -> Outcome:
    """Say what came of one kind."""
    return Outcome(injected, f"skipped and counted: *{reason}*" if reason else "read")


def enter_pictures(kind: str) -> None:
    """Enter one kind of picture into the campaign."""

    @fault(f"pictures: {kind}", short=1, long=20)
    def inject(folder: Path, draw: random.Random, times: int) -> Outcome:
        count, said = 0, set[str]()
        for _ in range(times):
            files = pictures(draw)[kind]
            odd = [
                [(f"x{n}.jpg", data), (f"x{n}.txt", b"odd")] for n, (data, _) in enumerate(files)
            ]
            check(train_on(folder, odd), [reason for _, reason in files])
            count += len(files)
            said |= {reason for _, reason in files}
        return of_kind(kind, ", ".join(sorted(said)), count)


def enter_captions(kind: str) -> None:
    """Enter one kind of caption into the campaign."""

    @fault(f"captions: {kind}", short=1, long=20)
    def inject(folder: Path, draw: random.Random, times: int) -> Outcome:
        count, said = 0, set[str]()
        for _ in range(times):
            files = captions(draw)[kind]
            odd = [
                [(f"x{n}.jpg", pair(n)[0][1]), (f"x{n}.{suffix}", data)]
                for n, (suffix, data, _) in enumerate(files)
            ]
            skips = train_on(folder, odd)
            check(skips, [reason for *_, reason in files])
            if kind == "of a megabyte":
                assert skips.truncated
            count += len(files)
            said |= {reason for *_, reason in files}
        text = f"skipped and counted: *{', '.join(sorted(said - {''}))}*" if said - {""} else ""
        read = "cut, read and counted as truncated" if kind == "of a megabyte" else "read"
        return Outcome(count, "; ".join(filter(None, [text, read if "" in said else ""])))


for _kind in pictures(random.Random(0)):
    enter_pictures(_kind)
for _kind in captions(random.Random(0)):
    enter_captions(_kind)
