"""Pictures that look alike are found, all of them, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picture_files import encode, scene
from PIL import Image, ImageEnhance

from bifocal.data.decode import decode, to_tensor
from bifocal.data.perceptual import (
    ALIKE,
    FLAT,
    NEAR,
    near_duplicates,
    perceptual_hash,
    resemblance,
    thumbnail,
)
from bifocal.data.sources import Reading, open_source


def brute_force(hashes: np.ndarray, others: np.ndarray | None, distance: int) -> np.ndarray:
    """All pairs, one by one."""
    found = [
        (i, j)
        for i, a in enumerate(hashes.tolist())
        for j, b in enumerate((hashes if others is None else others).tolist())
        if a != FLAT and b != FLAT and (a ^ b).bit_count() <= distance
        if others is not None or i < j
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def clustered(count: int, distance: int, seed: int) -> np.ndarray:
    """Random hashes, a third of them near another, some equal and some `FLAT`."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(1, 2**64, count, dtype=np.uint64)
    for n in range(0, count, 3):
        flips = rng.choice(64, rng.integers(0, distance + 3), replace=False)
        hashes[n] = hashes[rng.integers(count)] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    hashes[::17] = FLAT
    return hashes


@pytest.mark.property
@given(st.integers(0, 130), st.integers(0, 70), st.integers(0, 24), st.integers(0, 10**6))
def test_pairs_are_those_of_brute_force(count, other, distance, seed):
    hashes = clustered(count, distance, seed)
    others = np.concatenate([hashes[: other // 2], clustered(other, distance, seed + 1)])
    np.testing.assert_array_equal(
        near_duplicates(hashes, None, distance), brute_force(hashes, None, distance)
    )
    np.testing.assert_array_equal(
        near_duplicates(hashes, others, distance), brute_force(hashes, others, distance)
    )


@pytest.mark.property
@pytest.mark.parametrize("distance", [0, 1, 3, 8, 11])
def test_bands_of_many_hashes_lose_none(distance):
    """Enough hashes for bands that allow a difference of their own, and for tables of places."""
    hashes = clustered(4000, distance, distance)
    far = np.bitwise_count(hashes[:, None] ^ hashes) > distance
    far |= (hashes == FLAT) | (hashes == FLAT)[:, None]
    np.testing.assert_array_equal(
        near_duplicates(hashes, None, distance), np.argwhere(np.triu(~far, 1))
    )


@pytest.mark.behaviour
def test_a_changed_picture_stays_near_and_a_mirrored_one_does_not():
    image = Image.fromarray(scene(320, 240))
    own = perceptual_hash(to_tensor(np.asarray(image)))
    own_look = thumbnail(to_tensor(np.asarray(image)))
    changed = [
        encode(image, "JPEG", quality=40),
        encode(image, "WEBP", quality=50),
        encode(image.resize((96, 96)), "PNG"),
        encode(image.convert("L"), "PNG"),
        encode(ImageEnhance.Brightness(image).enhance(1.15), "PNG"),
    ]
    for encoded in changed:
        found = decode(encoded)
        assert (perceptual_hash(found) ^ own).bit_count() <= NEAR
        assert resemblance(own_look[None], thumbnail(found)[None])[0] > ALIKE
    mirrored = to_tensor(np.asarray(image)[:, ::-1])
    assert (perceptual_hash(mirrored) ^ own).bit_count() > NEAR


@pytest.mark.behaviour
def test_pictures_without_texture_are_near_nothing():
    noise = torch.randint(100, 104, (3, 40, 50), dtype=torch.uint8)
    flat = [torch.full((3, 9, 9), level, dtype=torch.uint8) for level in (0, 128, 255)]
    hashes = np.array([perceptual_hash(image) for image in [*flat, noise]], dtype=np.uint64)
    assert (hashes == FLAT).all()
    assert len(near_duplicates(hashes, None, NEAR)) == 0
    looks = np.stack([thumbnail(image) for image in flat])
    assert (resemblance(looks, looks) == 0).all()


@pytest.mark.behaviour
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (3, 2), (2000, 1)])
def test_any_shape_has_a_hash(shape):
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert 0 <= perceptual_hash(image) < 2**64


@pytest.mark.golden
def test_photographs(photographs: Path):
    """At half size, encoded anew and without 2 % of their edges; 360 gave the same outcome."""
    source = open_source("flickr8k/val*.tar", Reading(root=photographs))
    images = [decode(source.read(n).image) for n in range(60)]
    again = []
    for image in images:
        found = Image.fromarray(image.permute(1, 2, 0).numpy())
        width, height = found.size
        found = found.crop((width // 100, height // 100, width * 99 // 100, height * 99 // 100))
        found = found.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
        again.append(decode(encode(found, "JPEG", quality=75)))
    hashes, others = (
        np.array([perceptual_hash(image) for image in some], dtype=np.uint64)
        for some in (images, again)
    )
    found = near_duplicates(hashes, others, NEAR)
    np.testing.assert_array_equal(found, np.stack([np.arange(60)] * 2, axis=1))
    looks, others = (np.stack([thumbnail(image) for image in some]) for some in (images, again))
    assert resemblance(looks, others).min() > ALIKE
