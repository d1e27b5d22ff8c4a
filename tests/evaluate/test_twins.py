"""Twins by looks are those of comparing every picture with every other; drawings do not collide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bifocal.cli.contamination import _rounded
from bifocal.data.perceptual import (
    ALIKE,
    FLAT,
    NEAR,
    near_duplicates,
    perceptual_hash,
    resemblance,
    thumbnail,
)
from bifocal.evaluate import twins
from bifocal.evaluate.contamination import Neighbours, asked
from bifocal.evaluate.twins import Pictured, find_twins


def stored(draws: np.random.Generator, count: int) -> Pictured:
    """Hashes and thumbnails of few kinds, so that many meet, some of which are flat."""
    bases = np.array([0x0F0F_1234_0000_FFFF, 0x0F0F_1234_0000_FFF0, 0xAAAA_5555_1111_7777])
    hashes = bases.astype(np.uint64)[draws.integers(3, size=count)]
    hashes ^= np.uint64(1) << draws.integers(5, size=count).astype(np.uint64)
    hashes[draws.random(count) < 0.1] = FLAT
    shapes = np.random.default_rng(7).integers(40, 200, (3, 16, 16))
    noise = draws.integers(-6, 7, (count, 16, 16)) * draws.integers(2, size=(count, 1, 1))
    return Pictured(hashes, (shapes[draws.integers(3, size=count)] + noise).astype(np.uint8))


def by_brute_force(test: Pictured, train: Pictured, distance: int) -> tuple[list[int], list[float]]:
    bits, alike = [], []
    for own, small in zip(test.hashes, test.thumbnails, strict=True):
        found = (64, float("nan"))
        for other, theirs in zip(train.hashes, train.thumbnails, strict=True):
            apart = (int(own) ^ int(other)).bit_count()
            likeness = float(resemblance(small[None], theirs[None])[0])
            near = FLAT not in (own, other) and apart <= distance and likeness >= ALIKE
            if near and (apart, -likeness) < (found[0], -found[1] if found[0] < 64 else 0.0):
                found = (apart, likeness)
        bits.append(found[0])
        alike.append(found[1])
    return bits, alike


@pytest.mark.property
@pytest.mark.parametrize("distance", [0, 2, 8])
def test_twins_are_those_of_brute_force(distance, monkeypatch):
    monkeypatch.setattr(twins, "BLOCK", 37)
    draws = np.random.default_rng(distance)
    test, train = stored(draws, 60), stored(draws, 90)
    found = find_twins(test, train, distance)
    bits, alike = by_brute_force(test, train, distance)
    assert found.bits.tolist() == bits
    torch.testing.assert_close(
        found.resemblance, torch.tensor(alike, dtype=torch.float64), equal_nan=True
    )
    assert 0 < sum(one < 64 for one in bits) < 60
    for row, (other, apart) in enumerate(zip(found.rows.tolist(), bits, strict=True)):
        assert (other < 0) == (apart == 64)
        if other >= 0:
            assert (int(test.hashes[row]) ^ int(train.hashes[other])).bit_count() == apart


@pytest.mark.behaviour
def test_nothing_near_and_nothing_at_all_have_no_twins():
    draws = np.random.default_rng(0)
    some = stored(draws, 5)
    flat = Pictured(np.zeros(4, np.uint64), some.thumbnails[:4])
    for test, train in (
        (some, flat),
        (flat, some),
        (some, Pictured(some.hashes[:0], some.thumbnails[:0])),
    ):
        found = find_twins(test, train, NEAR)
        assert found.bits.tolist() == [64] * len(test.hashes)
        assert found.rows.tolist() == [-1] * len(test.hashes)
        assert bool(found.resemblance.isnan().all())


def drawing(seed: int) -> torch.Tensor:
    """A plain shape on plain ground."""
    draws = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), (225, 225, 225))
    x, y, size = draws.integers(16, 40, 3).tolist()
    shape = ImageDraw.Draw(image)
    (shape.ellipse, shape.rectangle)[seed % 2]((x, y, x + size // 2, y + size // 2), fill="#b03030")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@pytest.mark.behaviour
def test_drawings_whose_hashes_meet_are_told_apart_by_their_thumbnails():
    pictures = [drawing(seed) for seed in range(500)]
    look = Pictured(
        np.array([perceptual_hash(one) for one in pictures], np.uint64),
        np.stack([thumbnail(one) for one in pictures]),
    )
    halves = [
        Pictured(look.hashes[part], look.thumbnails[part]) for part in (slice(250), slice(250, 500))
    ]
    pairs = near_duplicates(halves[0].hashes, halves[1].hashes, NEAR)
    found = find_twins(halves[0], halves[1], NEAR)
    met = len(np.unique(pairs[:, 0]))
    told = int((found.rows >= 0).sum())
    assert told < met, "the second look leaves some of the meetings out"
    same = find_twins(look, look, NEAR)
    assert bool((same.bits[torch.from_numpy(look.hashes != FLAT)] == 0).all())


@pytest.mark.behaviour
def test_a_record_says_what_was_asked_of_a_match():
    match = asked(0.97, 6)
    assert match["cosine"] == 0.97
    assert (match["looks"]["bits"], match["looks"]["resemblance"]) == (6, ALIKE)
    assert asked(None, 6)["cosine"] is None
    assert _rounded(float("nan")) is None
    none = torch.tensor([64, 3])
    found = Neighbours(torch.tensor([0.5, 0.99]), none, none, torch.tensor([-1, 2]), none.double())
    assert found.overlap(distance=6).tolist() == [False, True]
    assert found.overlap(0.4).tolist() == [True, True]
