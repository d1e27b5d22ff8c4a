"""The crop of a picture as it lies in memory, beside the plain form of the same arithmetic."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocal.inputs.preprocess import Augment, Draw, random_crop, shorter_side

TASKS = Path("/proc/self/task")
side = st.integers(1, 90)
unit = st.floats(0, 1, exclude_max=True)
draws = st.builds(Draw, area=unit, x=unit, y=unit, flip=unit, caption=unit)


def plain_crop(image: torch.Tensor, size: int, augment: Augment, draw: Draw) -> torch.Tensor:
    """Cut, resize, mirror: torch's operations and nothing else."""
    height, width = image.shape[1:]
    share = augment.min_area + (1 - augment.min_area) * draw.area
    own = max(1, round(min(height, width) * share**0.5))
    top, left = int(draw.y * (height - own + 1)), int(draw.x * (width - own + 1))
    square = image[:, top : top + own, left : left + own]
    if own != size:
        square = F.interpolate(
            square[None], size=(size, size), mode="bicubic", antialias=True, align_corners=False
        )[0]
    return square.flip(-1) if augment.horizontal_flip and draw.flip < 0.5 else square


@pytest.mark.property
@settings(max_examples=80)
@given(
    height=side,
    width=side,
    size=st.integers(2, 60),
    area=st.floats(0.05, 1),
    mirrors=st.booleans(),
    draw=draws,
)
def test_a_crop_has_the_bits_of_the_plain_form_however_the_picture_lies(
    height, width, size, area, mirrors, draw
):
    augment = Augment(min_area=area, horizontal_flip=mirrors)
    pixels = np.random.default_rng(height * 91 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    decoded = torch.from_numpy(pixels).permute(2, 0, 1)
    planes = decoded.contiguous()
    expected = plain_crop(planes, size, augment, draw)
    for image in (decoded, planes):
        found = random_crop(image, size, augment, draw)
        assert torch.equal(found, expected)
        assert torch.equal(found, plain_crop(image, size, augment, draw))


@pytest.mark.property
@given(
    height=st.integers(8, 3000),
    width=st.integers(8, 3000),
    size=st.integers(1, 448),
    area=st.floats(0.05, 1),
    draw=draws,
)
def test_a_picture_of_the_shorter_side_asked_for_gives_a_crop_of_the_size(
    height, width, size, area, draw
):
    augment = Augment(min_area=area)
    least = shorter_side(size, augment, draw)
    share = area + (1 - area) * draw.area
    for short in (least, least + 1, max(least, min(height, width))):
        assert round(short * share**0.5) >= size
    assert (least - 1) * share**0.5 < size


@pytest.mark.behaviour
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 20_000)])
def test_a_ribbon_costs_a_square_of_its_shorter_side(shape):
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    draw = Draw(area=0.5, x=0.7, y=0.7, flip=0.9, caption=0.5)
    found = random_crop(image, 32, Augment(), draw)
    assert found.shape == (3, 32, 32)
    assert found.untyped_storage().nbytes() == 3 * 32 * 32


@pytest.mark.behaviour
@pytest.mark.skipif(not TASKS.is_dir(), reason="needs /proc to count the threads of a process")
def test_a_thread_that_crops_wakes_none_of_torchs_threads():
    image = torch.zeros(480, 640, 3, dtype=torch.uint8).permute(2, 0, 1)
    draw = Draw(area=0.5, x=0.5, y=0.5, flip=0.1, caption=0.5)
    grown: list[int] = []

    def crop() -> None:
        before = len(list(TASKS.iterdir()))
        random_crop(image, 448, Augment(horizontal_flip=True), draw)
        grown.append(len(list(TASKS.iterdir())) - before)

    def copy() -> None:
        before = len(list(TASKS.iterdir()))
        image.contiguous()
        grown.append(len(list(TASKS.iterdir())) - before)

    torch.set_num_threads(3)
    try:
        for work in (crop, copy):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(1)
    assert grown[0] == 0
    if grown[1] == 0:
        pytest.skip("this torch copies in one thread")
