"""Pictures as the towers read them: Pillow's bicubic, torchvision's crop, and seeded crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bifocal.data.decode import decode
from bifocal.data.sources import Reading, open_source
from bifocal.errors import ConfigError
from bifocal.inputs import preprocess
from bifocal.inputs.preprocess import Augment, Draw, Preprocess, random_crop, resize
from bifocal.inputs.prompts import PHOTO, fill, prompts

side = st.integers(3, 90)


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours, edges and noise, as a photograph has them."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 20, (height, width))
    planes = [128 + 100 * np.sin(x / 9 + seed), 128 + 100 * np.cos(y / 7), (x * 3 > y * 4) * 220.0]
    return (np.stack(planes, axis=-1) + noise[..., None]).clip(0, 255).astype(np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def by_pillow(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Pillow's bicubic, columns first and then rows, with whole levels between.

    That is its order up to version 12. Version 13 takes rows first where that is cheaper, which
    moves a level beside saturated edges by up to 16.
    """
    first = Image.fromarray(image).resize((columns, len(image)), Image.Resampling.BICUBIC)
    return np.asarray(first.resize((columns, rows), Image.Resampling.BICUBIC))


@pytest.mark.parity
@settings(max_examples=60)
@given(height=side, width=side, rows=side, columns=side, seed=st.integers(0, 3))
def test_resizing_is_pillows_bicubic_within_two_levels(height, width, rows, columns, seed):
    image = scene(height, width, seed)
    found = resize(tensor(image), rows, columns).numpy().transpose(1, 2, 0)
    assert np.abs(found.astype(int) - by_pillow(image, rows, columns)).max() <= 2


@pytest.mark.parity
def test_photographs_are_resized_as_by_pillow(photographs):
    source = open_source("flickr8k/val-*.tar", Reading(root=photographs))
    for index in range(12):
        sample = source.read(index)
        assert isinstance(sample.image, bytes)
        image = decode(sample.image)
        height, width = image.shape[1:]
        size = 64 if index % 2 else 224
        rows, columns = size * height // min(height, width), size * width // min(height, width)
        plain = Image.fromarray(image.numpy().transpose(1, 2, 0))
        expected = np.asarray(plain.resize((columns, rows), Image.Resampling.BICUBIC))
        found = resize(image, rows, columns).numpy().transpose(1, 2, 0)
        assert np.abs(found.astype(int) - expected).max() <= 2


def by_torchvision(image: np.ndarray, size: int) -> np.ndarray:
    """torchvision's Resize(size, BICUBIC) and CenterCrop(size) on a Pillow picture.

    Origin: torchvision.transforms.functional: _compute_resized_output_size truncates the longer
    side, center_crop rounds the offset half to even.
    """
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    scaled = int(size * long / short)
    rows, columns = (size, scaled) if height <= width else (scaled, size)
    resized = by_pillow(image, rows, columns)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return resized[top : top + size, left : left + size]


@pytest.mark.parity
@settings(max_examples=60)
@given(height=side, width=side, size=st.integers(4, 40))
def test_fitting_is_torchvisions_resize_and_centre_crop(height, width, size):
    image = scene(height, width)
    found = Preprocess(image_size=size).fit(tensor(image)).numpy().transpose(1, 2, 0)
    assert found.shape == (size, size, 3)
    assert np.abs(found.astype(int) - by_torchvision(image, size)).max() <= 2


@pytest.mark.golden
@pytest.mark.parametrize(("width", "left"), [(13, 0), (14, 1), (15, 2), (16, 2), (17, 2), (19, 4)])
def test_the_centre_crop_rounds_half_to_even(width, left):
    # Origin: Python's round(x / 2) for 1, 2, 3, 4, 5 and 7 pixels over, as torchvision has it.
    columns = torch.arange(width, dtype=torch.uint8).expand(3, 12, width).contiguous()
    found = Preprocess(image_size=12).fit(columns)
    assert found[0, 0, 0] == left


@pytest.mark.behaviour
def test_a_ribbon_is_cut_to_its_middle_without_filling_the_memory(monkeypatch):
    # Resized whole, this picture of 20 KB a row would take 3 gigabytes.
    areas = []

    def spy(image, rows, columns):
        areas.append(rows * columns)
        return resize(image, rows, columns)

    monkeypatch.setattr(preprocess, "resize", spy)
    columns = (torch.arange(20_001) == 10_000) * 255
    ribbon = columns.to(torch.uint8).expand(3, 1, -1).contiguous()
    for image in (ribbon, ribbon.transpose(1, 2).contiguous()):
        found = Preprocess(image_size=224).fit(image)
        assert found.shape == (3, 224, 224)
        assert found[0, 112, 112] == 255
    assert max(areas) <= 101 * 224**2


@pytest.mark.golden
def test_normalised_levels_are_openais():
    # Origin: DESIGN section 4: (x / 255 - mean) / std.
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    found = Preprocess().normalize(images)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    torch.testing.assert_close(found, (images / 255 - mean) / std)
    assert found.dtype == torch.float32


unit = st.floats(0, 1, exclude_max=True)
draws = st.builds(Draw, area=unit, x=unit, y=unit, flip=unit, caption=unit)


@pytest.mark.property
@given(height=side, width=side, size=st.integers(4, 40), area=st.floats(0.01, 1), draw=draws)
def test_a_crop_is_a_square_of_the_picture_and_of_its_area(height, width, size, area, draw):
    # Each pixel holds its place, so that the crop shows where it was taken.
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, rows * 0]).to(torch.uint8)
    augment = Augment(min_area=area)
    found = random_crop(image, size, augment, draw)
    assert found.shape == (3, size, size)
    assert torch.equal(found, random_crop(image, size, augment, draw))
    # Cropped at its own size, the square is a piece of the picture as it is.
    short = min(height, width)
    share = area + (1 - area) * draw.area
    own = max(1, round(short * share**0.5))
    piece = random_crop(image, own, augment, draw)
    top, left = int(piece[0, 0, 0]), int(piece[1, 0, 0])
    assert torch.equal(piece, image[:, top : top + own, left : left + own])
    assert own >= round(short * area**0.5) or own == 1


@pytest.mark.property
@given(draw=draws, other=draws)
def test_the_papers_crop_moves_along_the_longer_side_alone(draw, other):
    image = tensor(scene(24, 60))
    columns = torch.arange(60, dtype=torch.uint8).expand(1, 24, 60)
    image[1] = columns
    piece = random_crop(image, 24, Augment(), draw)
    left = int(piece[1, 0, 0])
    assert torch.equal(piece, image[:, :, left : left + 24])
    square = image[:, :, :24]
    assert torch.equal(
        random_crop(square, 24, Augment(), draw), random_crop(square, 24, Augment(), other)
    )


@pytest.mark.golden
def test_crops_reach_both_ends_and_half_are_mirrored():
    image = torch.arange(40, dtype=torch.uint8).expand(3, 10, 40).contiguous()
    middle = {"area": 0.5, "y": 0.5, "flip": 0.5, "caption": 0.5}
    assert random_crop(image, 10, Augment(), Draw(x=0.0, **middle))[0, 0, 0] == 0
    assert random_crop(image, 10, Augment(), Draw(x=1 - 2**-53, **middle))[0, 0, -1] == 39
    mirrored = Augment(horizontal_flip=True)
    for flip, first in ((0.0, 9), (0.4999, 9), (0.5, 0), (0.99, 0)):
        draw = Draw(x=0.0, area=0.5, y=0.5, flip=flip, caption=0.5)
        assert random_crop(image, 10, mirrored, draw)[0, 0, 0] == first
        assert random_crop(image, 10, Augment(), draw)[0, 0, 0] == 0


@pytest.mark.golden
def test_an_article_fits_its_name():
    assert fill("a photo of a {}.", "cat") == "a photo of a cat."
    assert fill("a photo of a {}.", "airplane") == "a photo of an airplane."
    assert fill("a {}", "Orange ball") == "an Orange ball"
    assert fill("a {} and a {}", "owl") == "an owl and an owl"
    assert fill("the {c} in a {c} suit", "ape") == "the ape in an ape suit"
    assert fill("a {}", "uniform") == "a uniform"
    assert fill("extra {}", "owl") == "extra owl"
    assert fill("banana {}", "owl") == "banana owl"
    assert PHOTO == ("a photo of a {}.",)


@pytest.mark.behaviour
def test_prompts_need_names_and_places():
    assert prompts(["cat", "owl"], ["a {}", "{}"]) == [["a cat", "cat"], ["an owl", "owl"]]
    with pytest.raises(ConfigError, match=r"template 'a photo' has no {} for the class name"):
        prompts(["cat"], ["a photo"])
    for names, templates in (([], ["{}"]), (["cat"], [])):
        with pytest.raises(ConfigError, match="at least one class name and one template"):
            prompts(names, templates)
    with pytest.raises(ConfigError, match="a class name is empty"):
        prompts(["cat", " "], ["{}"])
