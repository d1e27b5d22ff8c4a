"""Unusual pictures: deep, floating, moving, turned, narrow; each is seen as it was meant."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import by_pillow, encode, ours, scene
from PIL import Image, ImageOps

from bifocal.data.decode import decode
from bifocal.data.orientation import jpeg_orientation, orientation
from bifocal.errors import DataError
from bifocal.inputs import preprocess
from bifocal.inputs.preprocess import Augment, Draw, Preprocess, random_crop, resize


@pytest.mark.golden
@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        # Origin: shares of 1, levels of 255, and otherwise the range laid on 0 to 255.
        ([0.0, 0.25, 1.0], [0, 64, 255]),
        ([0.0, 64.0, 200.0], [0, 64, 200]),
        ([-1000.0, 0.0, 1000.0], [0, 128, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([float("-inf"), 0.5, float("inf")], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [7, 7, 7]),
        ([1e38, -1e38, 3e38], [127, 0, 255]),
    ],
)
def test_floats_keep_their_shades(levels, expected):
    image = Image.fromarray(np.array([levels], dtype=np.float32))
    found = ours(encode(image, "TIFF"))
    assert found.shape == (1, 3, 3)
    assert found[0, :, 1].tolist() == expected


@pytest.mark.golden
def test_long_integers_keep_their_shades():
    for levels, expected in (
        ([0, 100, 255], [0, 100, 255]),
        ([0, 32_768, 65_535], [0, 128, 255]),
        ([-(2**30), 0, 2**30], [0, 128, 255]),
    ):
        image = Image.fromarray(np.array([levels], dtype=np.int32))
        assert ours(encode(image, "TIFF"))[0, :, 2].tolist() == expected


@pytest.mark.behaviour
def test_floats_without_a_number_are_damaged():
    image = Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match=r"^truncated or damaged picture$"):
        decode(encode(image, "TIFF"))


@pytest.mark.behaviour
def test_sixteen_bit_grey_keeps_its_shades():
    ramp = (np.arange(32, dtype=np.uint16) * 2048).reshape(4, 8)
    found = ours(encode(Image.fromarray(ramp), "PNG"))[..., 0].astype(int)
    assert np.abs(found - (ramp >> 8)).max() <= 1


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
    encoded = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(encoded)).n_frames == 3
    assert np.array_equal(ours(encoded), by_pillow(encoded))
    assert np.abs(ours(encoded)[0, 0].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parity
@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_other_modes_are_pillows(mode):
    image = Image.fromarray(scene())
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, image.tobytes())
    encoded = encode(image.convert(mode) if mode != "LAB" else image, "TIFF")
    assert Image.open(io.BytesIO(encoded)).mode == mode
    assert np.array_equal(ours(encoded), by_pillow(encoded))


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("seen_as", range(10))
def test_a_picture_is_turned_as_it_is_seen_or_left_as_it_is_stored(kind, seen_as):
    exif = Image.Exif()
    exif[0x0112] = seen_as
    encoded = encode(Image.fromarray(scene()), kind, exif=exif)
    stored = Image.open(io.BytesIO(encoded))
    seen = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.abs(ours(encoded).astype(int) - seen).max() <= 2
    as_peers = decode(encoded, upright=False).numpy().transpose(1, 2, 0)
    assert np.abs(as_peers.astype(int) - by_pillow(encoded)).max() <= 2


@pytest.mark.parity
def test_a_cmyk_jpeg_is_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(Image.fromarray(scene()).convert("CMYK"), "JPEG", exif=exif, quality=95)
    assert ours(encoded).shape == (37, 29, 3)


@pytest.mark.property
@given(body=st.binary(max_size=80), start=st.sampled_from([b"", b"II*\0", b"MM\0*", b"Exif\0\0II"]))
def test_any_exif_says_something(body, start):
    assert 1 <= orientation(start + body) <= 8
    assert 1 <= jpeg_orientation(b"\xff\xd8\xff\xe1\0\x50Exif\0\0" + start + body) <= 8
    assert 1 <= jpeg_orientation(b"\xff\xd8" + body) <= 8


@pytest.mark.behaviour
@pytest.mark.parametrize("name", ["jpg.png", "png.jpg", "gif.jpg"])
def test_a_wrong_suffix_does_not_matter(name):
    # Names never reach the decoder: a PNG that is called .jpg is read as the PNG that it is.
    kind = {"jpg": "JPEG", "png": "PNG", "gif": "GIF"}[name[:3]]
    encoded = encode(Image.fromarray(scene()), kind)
    assert np.abs(ours(encoded).astype(int) - by_pillow(encoded)).max() <= 2


@pytest.mark.behaviour
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 30_000), (1, 1)])
def test_a_ribbon_is_read_without_filling_the_memory(shape, monkeypatch):
    encoded = encode(Image.new("RGB", shape, (9, 99, 199)), "PNG")
    draw = Draw(area=0.5, x=0.5, y=0.5, flip=0.7, caption=0.0)
    areas = []

    def spy(image, rows, columns):
        areas.append(rows * columns)
        return resize(image, rows, columns)

    monkeypatch.setattr(preprocess, "resize", spy)
    image = decode(encoded)
    for found in (Preprocess().fit(image), random_crop(image, 224, Augment(), draw)):
        assert found.shape == (3, 224, 224)
        assert found[:, 100, 100].tolist() == [9, 99, 199]
    assert len(areas) == 2
    assert max(areas) <= 40 * 224**2
