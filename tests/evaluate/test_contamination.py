"""Copies of test pictures among training pictures: all are found, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tar_files import write

from bifocal.data.captions import CaptionReader
from bifocal.data.decode import decode
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source
from bifocal.embed import Job, embed
from bifocal.errors import DataError
from bifocal.evaluate.binomial import at_least, clopper_pearson
from bifocal.evaluate.contamination import (
    Neighbours,
    Side,
    classified,
    contamination,
    neighbours,
    recalled,
)
from bifocal.evaluate.metrics import rank_of_best

HASHED = Job(hashes=True)


def encoded(pixels: np.ndarray, quality: int, scale: float = 1.0) -> bytes:
    image = Image.fromarray(pixels)
    size = (round(image.width * scale), round(image.height * scale))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=quality)
    return file.getvalue()


def smooth(seed: int) -> np.ndarray:
    """A picture that no other seed looks like."""
    draws = np.random.default_rng(seed)
    small = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((160, 120), Image.Resampling.BICUBIC))


def shard(path: Path, pictures: list[bytes]) -> ShardSource:
    files = {
        f"{n:04d}.{kind}": data
        for n, one in enumerate(pictures)
        for kind, data in (("jpg", one), ("txt", b"caption %d" % n))
    }
    return ShardSource([write(path, files)], CaptionReader())


def planted(
    folder: Path, tests: list[np.ndarray], others: list[np.ndarray]
) -> tuple[ShardSource, ShardSource]:
    """Return training and test pictures; every third test picture is in training, made anew."""
    copies = [
        encoded(pixels, quality=(40, 60, 80)[n % 3], scale=(0.5, 0.8, 1.3)[n // 3 % 3])
        for n, pixels in enumerate(tests[::3])
    ]
    train = [encoded(pixels, 90) for pixels in others] + copies
    return (
        shard(folder / "train.tar", train),
        shard(folder / "test.tar", [encoded(pixels, 90) for pixels in tests]),
    )


@pytest.fixture
def clip(tiny_vit, random_pretrained):
    return random_pretrained(tiny_vit)


def find(clip, train, test, folder: Path, **options) -> Neighbours:
    sides = [embed(clip, one, folder / name, HASHED) for name, one in (("a", test), ("b", train))]
    return neighbours(*sides, **options)


@pytest.mark.property
def test_planted_copies_are_found_and_nothing_else(clip, tmp_path):
    tests, others = [smooth(n) for n in range(60)], [smooth(n) for n in range(100, 180)]
    found = find(clip, *planted(tmp_path, tests, others), tmp_path)
    overlap = found.overlap()
    assert overlap.nonzero()[:, 0].tolist() == list(range(0, 60, 3))
    copies = torch.arange(80, 100)
    assert torch.equal(found.twins[overlap], copies), "each copy is that of its picture"
    assert torch.equal(found.rows[overlap], copies), "to the model too it is the nearest"
    least = float(found.cosines[overlap].min())
    assert torch.equal(found.overlap(threshold=least, distance=0)[overlap], overlap[overlap])
    assert found.shown(0) == 80
    assert found.shown(1) == int(found.rows[1])


@pytest.mark.behaviour
def test_copies_of_photographs_are_found_and_nothing_else(clip, photographs, tmp_path):
    def pictures(pattern: str, count: int) -> list[np.ndarray]:
        source = open_source(f"flickr8k/{pattern}", Reading(root=photographs))
        step = len(source) // count
        samples = (source.read(n * step).image for n in range(count))
        return [decode(one).permute(1, 2, 0).numpy() for one in samples if isinstance(one, bytes)]

    sides = planted(tmp_path, pictures("val-*.tar", 30), pictures("train-000000.tar", 60))
    overlap = find(clip, *sides, tmp_path).overlap()
    assert overlap.nonzero()[:, 0].tolist() == list(range(0, 30, 3))


@pytest.mark.property
def test_neighbours_are_those_of_the_whole_matrices(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("bifocal.embed.neighbours.ROWS", 7)
    monkeypatch.setattr("bifocal.embed.neighbours.QUERIES", 4)
    # Only as many pictures as differ; the rest occur several times on both sides.
    pixels = [encoded(smooth(n % 12), 90) for n in range(30)]
    train, test = shard(tmp_path / "1.tar", pixels[5:]), shard(tmp_path / "2.tar", pixels)
    mine = embed(clip, test, tmp_path / "a", HASHED)
    theirs = embed(clip, train, tmp_path / "b", HASHED)
    found = neighbours(mine, theirs, distance=2)
    cosines = torch.tensor(mine.image_features) @ torch.tensor(theirs.image_features).T
    torch.testing.assert_close(found.cosines, cosines.amax(dim=1))
    bits = [[(a ^ b).bit_count() for b in theirs.hashes.tolist()] for a in mine.hashes.tolist()]
    least = torch.tensor(bits).amin(dim=1)
    assert torch.equal(found.bits, torch.where(least <= 2, least, 64))
    own = torch.tensor(bits)[torch.arange(30), found.twins]
    assert torch.equal(own, least)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("right", "trials", "level"),
    [(0, 5, 0.95), (5, 5, 0.95), (3, 40, 0.95), (71, 75, 0.995), (7437, 10_000, 0.95)],
)
def test_exact_intervals_are_scipys(right, trials, level):
    stats = pytest.importorskip("scipy.stats")
    found = clopper_pearson(right, trials, level)
    theirs = stats.binomtest(right, trials).proportion_ci(level, method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert found.value == right / trials


@pytest.mark.parity
@pytest.mark.parametrize(("right", "trials"), [(0, 3), (1, 3), (71, 75), (400, 1000), (999, 1000)])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.4, 0.7422, 1.0])
def test_one_tailed_p_values_are_scipys(right, trials, rate):
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(right, trials, rate, alternative="greater").pvalue
    assert at_least(right, trials, rate) == pytest.approx(theirs, rel=1e-7, abs=1e-12)


@pytest.mark.golden
def test_parts_and_what_they_say():
    # 6 of 8 clean pictures right and 4 of 4 overlapping ones: p = (6/8)^4, All - Clean =
    # 10/12 - 6/8, and no 99.5 % bound above 1.
    right = torch.tensor([True] * 6 + [False] * 2 + [True] * 4)
    overlap = torch.tensor([False] * 8 + [True] * 4)
    found = contamination(right, overlap)
    assert (found.images, found.overlapping, found.share) == (12, 4, 4 / 12)
    assert found.clean is not None
    assert found.overlap is not None
    assert (found.all.value, found.clean.value, found.overlap.value) == (10 / 12, 0.75, 1.0)
    assert found.p_value == pytest.approx(0.75**4)
    assert found.inflation is not None
    assert found.inflation.value == pytest.approx(10 / 12 - 0.75)
    assert found.inflation.high == pytest.approx(found.inflation.value)
    # The lower bound of 4 of 4: (α/2)^(1/4).
    assert found.overlap.low == pytest.approx(0.0025**0.25)
    assert found.inflation.low == pytest.approx((0.0025**0.25 - 0.75) / 3)


@pytest.mark.behaviour
def test_an_empty_part_makes_no_comparison():
    right = torch.tensor([True, False])
    for overlap in (right & ~right, right | ~right):
        found = contamination(right, overlap)
        assert found.p_value is None
        assert found.inflation is None
    with pytest.raises(DataError, match="no example"):
        contamination(right[:0], right[:0])


@pytest.mark.property
def test_what_is_right_is_read_from_features(clip, tmp_path):
    scenes = open_source("scenes:seen:30", Reading(image_size=16))
    found = embed(clip, scenes, tmp_path / "labelled", HASHED)
    classes = clip.zero_shot(scenes.class_names).head.logits(torch.tensor(found.image_features))
    assert torch.equal(
        classified(clip, Side(scenes, found)), classes.argmax(1) == torch.tensor(found.labels)
    )
    pairs = open_source("scenes:val:20", Reading(image_size=16))
    found = embed(clip, pairs, tmp_path / "captioned", Job(what="both"))
    scores = torch.tensor(found.image_features) @ torch.tensor(found.text_features).T
    own = torch.arange(20)[:, None] == torch.tensor(found.owners)
    for k in (1, 15):
        assert torch.equal(recalled(clip, Side(pairs, found), k), rank_of_best(scores, own) < k)
    with pytest.raises(DataError, match="no classes"):
        classified(clip, Side(pairs, found))
