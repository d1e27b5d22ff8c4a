"""Encoded pictures: the same as Pillow's, and a fixed reason for whatever is none."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import REASONS, by_pillow, encode, ours, outcome, scene
from PIL import Image

from bifocal.data.decode import MAX_PIXELS, decode
from bifocal.errors import DataError


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


@pytest.mark.behaviour
def test_a_jpeg_that_lost_data_is_no_picture():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), "JPEG", quality=80)
    refused = 0
    for start in range(2048, len(whole) - 2048, 1024):
        garbled = bytearray(whole)
        garbled[start : start + 512] = np.random.default_rng(start).bytes(512)
        refused += outcome(bytes(garbled)) == "truncated or damaged picture"
    tried = len(range(2048, len(whole) - 2048, 1024))
    assert tried >= 20
    # JPEG has no checksum: bytes that happen to be codes cannot be told from a picture.
    assert refused >= 0.9 * tried


@pytest.mark.behaviour
def test_bytes_before_the_end_mark_are_a_harmless_oddity():
    whole = encode(Image.fromarray(scene()), "JPEG")
    odd = whole[:-2] + b"\x01\x02\x03" + whole[-2:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    assert np.abs(ours(odd).astype(int) - by_pillow(whole)).max() <= 2


@pytest.mark.behaviour
def test_a_picture_without_pixels_is_no_picture():
    png = bytearray(encode(Image.new("RGB", (4, 4)), "PNG"))
    png[16:20] = bytes(4)  # its width
    jpeg = bytearray(encode(Image.fromarray(scene()), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = bytes(4)
    gif = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    gif[6:10] = bytes(4)
    assert outcome(bytes(png)) in REASONS[1:]
    assert outcome(bytes(jpeg)) in REASONS[1:]
    assert outcome(bytes(gif)) in REASONS


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
    assert outcome(bytes(raw[: int(cut * len(raw)) + 1])) in REASONS
