"""Pictures decoded into memory that is reused, and at a part of their size."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picture_files import encode, scene
from PIL import Image

from bifocal.data.decode import REDUCTIONS, Scratch, decode
from bifocal.errors import DataError
from bifocal.inputs.preprocess import Augment, Draw, random_crop

MIDDLE = Draw(area=0.5, x=0.5, y=0.5, flip=0.9, caption=0.5)


def photograph(width: int, height: int, **options: object) -> bytes:
    """A JPEG of sharp edges and of shades."""
    small = Image.fromarray(scene(max(2, width // 8), max(2, height // 8)))
    large = small.resize((width, height), Image.Resampling.BICUBIC)
    return encode(large, "JPEG", quality=92, **options)


def turned(encoded: bytes, seen_as: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = seen_as
    return encode(Image.open(io.BytesIO(encoded)), "JPEG", quality=92, exif=exif)


FILES = [
    photograph(64, 48),
    photograph(21, 200, subsampling=0),
    photograph(150, 90, progressive=True),
    turned(photograph(80, 56), 6),
    encode(Image.fromarray(scene()).convert("L"), "JPEG"),
    encode(Image.fromarray(scene()).convert("CMYK"), "JPEG"),
    encode(Image.fromarray(scene()), "PNG"),
]


@pytest.mark.property
@pytest.mark.parametrize("upright", [True, False])
def test_reused_memory_holds_what_memory_of_its_own_would(upright):
    scratch = Scratch()
    for encoded in FILES + FILES[::-1]:
        assert torch.equal(decode(encoded, upright, scratch=scratch), decode(encoded, upright))


@pytest.mark.behaviour
def test_memory_is_reused_up_to_a_size_and_is_each_threads_own(monkeypatch):
    first, other = photograph(64, 48), photograph(48, 64)
    scratch = Scratch()
    place = decode(first, scratch=scratch).data_ptr()
    assert decode(other, scratch=scratch).data_ptr() == place
    found = []
    thread = threading.Thread(target=lambda: found.append(decode(first, scratch=scratch)))
    thread.start()
    thread.join()
    assert found[0].data_ptr() != place
    monkeypatch.setattr(Scratch, "LARGEST", 64 * 48 * 3 - 1)
    tight = Scratch()
    kept = decode(first, scratch=tight)
    decode(other, scratch=tight)
    assert torch.equal(kept, decode(first))


@pytest.mark.property
@given(width=st.integers(8, 300), height=st.integers(8, 300), least=st.integers(0, 320))
def test_a_jpeg_is_reduced_as_far_as_the_shorter_side_allows(width, height, least):
    image = decode(photograph(width, height), shorter_side=least)
    short = min(width, height)
    fits = [by for by in REDUCTIONS if least and -(-short // by) >= least]
    by = max(fits, default=1)
    assert image.shape == (3, -(-height // by), -(-width // by))
    assert min(image.shape[1:]) >= min(least, short)


@pytest.mark.parity
@pytest.mark.parametrize("by", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_a_reduced_jpeg_is_what_pillow_drafts(by, options):
    encoded = photograph(320, 240, **options)
    drafted = Image.open(io.BytesIO(encoded))
    drafted.draft("RGB", (320 // by, 240 // by))
    expected = np.asarray(drafted.convert("RGB")).astype(int)
    found = decode(encoded, shorter_side=240 // by).numpy().transpose(1, 2, 0)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


@pytest.mark.behaviour
def test_a_reduced_picture_is_turned_and_what_is_no_jpeg_is_read_whole():
    whole, reduced = decode(FILES[3]), decode(FILES[3], shorter_side=20)
    assert whole.shape == (3, 80, 56)
    assert reduced.shape == (3, 40, 28)
    means = torch.nn.functional.avg_pool2d(whole.float(), 2)
    assert (reduced - means).abs().mean() < 3
    for encoded in FILES[6:]:
        assert torch.equal(decode(encoded, shorter_side=2), decode(encoded))


@pytest.mark.behaviour
def test_damage_is_refused_at_every_size():
    encoded = photograph(320, 240)
    for least in (0, 30, 120):
        with pytest.raises(DataError, match=r"^truncated or damaged picture$"):
            decode(encoded[: len(encoded) // 2], shorter_side=least, scratch=Scratch())


@pytest.mark.behaviour
@pytest.mark.parametrize(("size", "bound"), [(56, 3.0), (112, 3.0), (224, 0.0)])
def test_a_crop_of_a_reduced_picture_is_near_the_exact_one(size, bound):
    encoded = photograph(400, 300)
    exact = random_crop(decode(encoded), size, Augment(), MIDDLE).int()
    fast = random_crop(decode(encoded, shorter_side=size), size, Augment(), MIDDLE).int()
    assert (fast - exact).abs().float().mean() <= bound
