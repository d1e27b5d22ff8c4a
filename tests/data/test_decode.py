"""Encoded pictures: the same as Pillow's, and a fixed reason for whatever is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bifocal.data.decode import MAX_PIXELS, decode
from bifocal.errors import DataError

REASONS = (
    "",
    "empty file",
    "too many pixels",
    "not a picture of a known format",
    "truncated or damaged picture",
)


def scene(width: int = 37, height: int = 29) -> np.ndarray:
    """Smooth colours with an edge, as a photograph has them."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(x / 7), 128 + 100 * np.cos(y / 5 + x / 11), (x > y) * 200.0]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def ours(encoded: bytes) -> np.ndarray:
    image = decode(encoded)
    assert image.dtype == torch.uint8
    return image.numpy().transpose(1, 2, 0)


@pytest.mark.parity
@pytest.mark.parametrize("options", [{"quality": 90}, {"subsampling": 0}, {"progressive": True}])
def test_jpeg_is_pillows(options):
    encoded = encode(Image.fromarray(scene()), "JPEG", **options)
    difference = np.abs(ours(encoded).astype(int) - by_pillow(encoded))
    assert difference.max() <= 2


@pytest.mark.parity
def test_grey_and_cmyk_jpeg_are_pillows():
    for mode in ("L", "CMYK"):
        encoded = encode(Image.fromarray(scene()).convert(mode), "JPEG", quality=95)
        difference = np.abs(ours(encoded).astype(int) - by_pillow(encoded))
        assert difference.max() <= 2, mode


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_are_pillows(kind):
    encoded = encode(Image.fromarray(scene()), kind)
    assert np.array_equal(ours(encoded), by_pillow(encoded))


@pytest.mark.golden
def test_transparency_is_laid_on_white():
    # Origin: source-over, c = a * colour + (1 - a) * white.
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert (ours(encode(clear, "PNG")) == 255).all()
    assert np.abs(ours(encode(half, "PNG"))[0, 0].astype(int) - (255, 127, 127)).max() <= 1
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert ours(encode(palette, "PNG"))[0, 0].tolist() == [40, 50, 60]
    assert (ours(encode(palette, "PNG", transparency=1)) == 255).all()


@pytest.mark.behaviour
def test_sixteen_bit_grey_keeps_its_shades():
    ramp = (np.arange(32, dtype=np.uint16) * 2048).reshape(4, 8)
    found = ours(encode(Image.fromarray(ramp), "PNG"))[..., 0].astype(int)
    assert np.abs(found - (ramp >> 8)).max() <= 1


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not a picture of a known format"),
        (b"\xff\xd8", "not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture of a known format"),
        (b"P6 2 2 255 " + bytes(12), "not a picture of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture of a known format"),
        (encode(Image.fromarray(scene()), "JPEG")[:400], "truncated or damaged picture"),
        (encode(Image.fromarray(scene()), "PNG")[:200], "truncated or damaged picture"),
    ],
)
def test_what_is_no_picture_has_a_fixed_reason(encoded, reason):
    with pytest.raises(DataError, match=f"^{reason}$"):
        decode(encoded)


@pytest.mark.behaviour
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    side = int(MAX_PIXELS**0.5) + 1
    bomb = encode(Image.new("1", (side, side)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match=r"^too many pixels$"):
        decode(bomb)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("unpacked"))
    # A JPEG whose frame says 65,500 by 65,500 would take 13 gigabytes.
    jpeg = bytearray(encode(Image.fromarray(scene()), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    assert jpeg[frame + 5 : frame + 9] == bytes([0, 29, 0, 37])
    jpeg[frame + 5 : frame + 9] = (65_500).to_bytes(2, "big") * 2
    with pytest.raises(DataError, match=r"^too many pixels$"):
        decode(bytes(jpeg))


@pytest.mark.behaviour
@pytest.mark.parametrize("kind", [2, 10, 11])
def test_a_tiff_whose_tag_changed_type_is_damaged(kind):
    raw = bytearray(encode(Image.fromarray(scene()), "TIFF"))
    raw[72] = kind
    with pytest.raises(DataError, match=r"^truncated or damaged picture$"):
        decode(bytes(raw))


PICTURES = [
    encode(Image.fromarray(scene()), "JPEG"),
    encode(Image.fromarray(scene()).convert("CMYK"), "JPEG"),
    encode(Image.fromarray(scene()), "PNG"),
    encode(Image.fromarray(scene()).convert("P"), "PNG", transparency=3),
    encode(Image.fromarray(scene()), "WEBP"),
    encode(Image.fromarray(scene()).convert("P"), "GIF"),
    encode(Image.fromarray(scene()), "BMP"),
    encode(Image.fromarray(scene()), "TIFF"),
    encode(Image.fromarray(scene()), "TIFF", compression="tiff_lzw"),
]


@pytest.mark.property
@settings(max_examples=400)
@given(
    encoded=st.sampled_from(PICTURES),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    cut=st.floats(0.2, 1.5),
)
def test_damage_gives_a_picture_or_one_of_the_reasons(encoded, changes, cut):
    raw = bytearray(encoded)
    for place, value in changes:
        # Squared, since headers are where the interesting faults are.
        raw[int(place**3 * (len(raw) - 1))] = value
    raw = raw[: int(cut * len(raw)) + 1]
    reason = ""
    try:
        assert decode(bytes(raw)).numel() > 0
    except DataError as error:
        reason = str(error)
    assert reason in REASONS
