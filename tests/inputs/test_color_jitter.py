"""Colours of training pictures: Pillow's arithmetic, drawn from a sample's own numbers."""

from __future__ import annotations

import itertools
from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from bifocal.data.loader import Loader, Samples
from bifocal.data.plan import Plan
from bifocal.data.scenes import SceneSource
from bifocal.errors import ConfigError
from bifocal.inputs import preprocess
from bifocal.inputs.color import Factors, move_colors
from bifocal.inputs.preprocess import Augment, Draw, random_crop, shorter_side
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.settings import build
from bifocal.world import World

SOURCE = SceneSource(48, 0, 24)
factor = st.floats(0, 2, width=32)
GOLDEN = (
    0.4320451664020146,
    0.10823603954165117,
    0.922818308174565,
    0.5727242373223115,
    0.1765357894696007,
)
COLORS = (0.4007596398780343, 0.3913618794228052, 0.8413989392357304)


def picture(seed: int, low: int, high: int, rows: int = 13, columns: int = 17) -> torch.Tensor:
    """Smooth in the large, noisy in the small, between two levels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(low, high + 1, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(int) + random.integers(-9, 10, (rows, columns, 3))
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def pillows(image: torch.Tensor, factors: Factors) -> torch.Tensor:
    """The oracle: Pillow's three enhancements one after the other."""
    found = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    found = ImageEnhance.Brightness(found).enhance(factors.brightness)
    found = ImageEnhance.Contrast(found).enhance(factors.contrast)
    found = ImageEnhance.Color(found).enhance(factors.saturation)
    return torch.from_numpy(np.array(found)).permute(2, 0, 1)


def batches(augment: Augment, threads: int, world: World | None = None) -> list[torch.Tensor]:
    samples = Samples(
        SOURCE,
        Plan(SOURCE, 0),
        Tokenizer([("a", "b</w>")], context_length=8),
        lambda image, draw: random_crop(image, 16, augment, draw),
    )
    made = iter(Loader(samples, 12, world=world or World(), threads=threads))
    found = [batch.images for batch in itertools.islice(made, 5)]
    made.close()
    return found


@pytest.mark.parity
@given(
    seed=st.integers(0, 99), ends=st.tuples(*[st.integers(0, 255)] * 2), f=st.tuples(*[factor] * 3)
)
def test_colors_are_those_of_pillow(seed, ends, f):
    image, factors = picture(seed, min(ends), max(ends)), Factors(*f)
    before = image.clone()
    found, expected = move_colors(image, factors), pillows(image, factors)
    assert (found.int() - expected.int()).abs().max() <= 2
    # Whole levels, as Pillow's: where a processor multiplies and adds at once a few may differ.
    assert (found != expected).float().mean() < 0.02
    assert torch.equal(image, before)


@pytest.mark.golden
def test_each_factor_moves_what_it_is_called_after():
    # Origin: by hand. Luminances are 29.9 and 111.4: 30 and 111, whose mean of 70.5 rounds to 71.
    image = torch.tensor([[[100, 100]], [[0, 100]], [[0, 200]]], dtype=torch.uint8)
    assert move_colors(image, Factors(1.0, 1.0, 1.0)).tolist() == image.tolist()
    # 200 becomes 400, and is cut to 255.
    assert move_colors(image, Factors(2.0, 1.0, 1.0)).tolist() == [
        [[200, 200]],
        [[0, 200]],
        [[0, 255]],
    ]
    assert move_colors(image, Factors(1.0, 0.0, 1.0)).unique().tolist() == [71]
    grey = move_colors(image, Factors(1.0, 1.0, 0.0))
    assert grey.tolist() == [[[30, 111]]] * 3


@pytest.mark.property
def test_colors_stay_by_default(monkeypatch):
    augment = Augment(min_area=0.5, horizontal_flip=True)
    assert augment.color_jitter == 0
    moved = augment.model_copy(update={"color_jitter": 0.4})
    plan, image = Plan(SOURCE, 0), picture(0, 0, 255, 40, 60)
    for position in range(8):
        draw = plan.draw(position)
        assert shorter_side(16, moved, draw) == shorter_side(16, augment, draw)
        plain, jittered = (random_crop(image, 16, one, draw) for one in (augment, moved))
        factors = Factors(*(1 + 0.4 * (2 * u - 1) for u in draw.colors))
        assert torch.equal(jittered, move_colors(plain, factors))
        assert not torch.equal(jittered, plain)
    # And nothing is computed for it.
    monkeypatch.setattr(preprocess, "move_colors", None)
    monkeypatch.setattr(Draw, "colors", None)
    random_crop(image, 16, augment, plan.draw(0))


@pytest.mark.golden
def test_draws_are_what_they_were():
    # Origin: the hash of Plan, as runs before there was a jitter drew; and its own hash beside it.
    draw = Plan(SOURCE, 0).draw(5)
    assert astuple(draw) == GOLDEN
    assert draw.colors == COLORS


@pytest.mark.property
def test_colors_are_drawn_uniformly_and_apart_from_all_else():
    plan = Plan(SOURCE, 0)
    draws = [plan.draw(position) for position in range(4000)]
    table = np.array([(*astuple(draw), *draw.colors) for draw in draws])
    assert table.min() >= 0
    assert table.max() < 1
    for column in table.T[5:]:
        counts = np.histogram(column, bins=10, range=(0, 1))[0]
        assert (np.abs(counts - 400) < 5 * 400**0.5).all()
    assert np.abs(np.corrcoef(table.T) - np.eye(8)).max() < 5 / 4000**0.5


@pytest.mark.property
@pytest.mark.parametrize("threads", [1, 3])
def test_colors_are_the_same_for_every_number_of_threads_and_ranks(threads):
    augment = Augment(min_area=0.5, color_jitter=0.5)
    alone = batches(augment, 0)
    for one, other in zip(batches(augment, threads), alone, strict=True):
        assert torch.equal(one, other)
    ranks = [batches(augment, threads, World(rank, 2)) for rank in range(2)]
    for parts, whole in zip(zip(*ranks, strict=True), alone, strict=True):
        assert torch.equal(torch.cat(parts), whole)
    # The second epoch has other colours.
    assert not torch.equal(alone[0], alone[4])
    assert not torch.equal(alone[0], batches(Augment(min_area=0.5), 0)[0])


@pytest.mark.behaviour
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "much"])
def test_a_jitter_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match="color_jitter"):
        build(Augment, {"color_jitter": value}, "test")
