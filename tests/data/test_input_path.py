"""From encoded pictures to batches: the plain path, bit for bit, and memory that does not grow."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from picture_files import encode, scene
from PIL import Image

from bifocal.data.decode import decode
from bifocal.data.loader import Loader, Samples
from bifocal.data.plan import Plan
from bifocal.data.sample import Sample
from bifocal.inputs.preprocess import Augment, Draw, random_crop, shorter_side
from bifocal.inputs.tokenizer import Tokenizer, pad
from bifocal.world import World

STATUS = Path("/proc/self/statm")
PAGE = 4096
SIZE = 32
AUGMENT = Augment(min_area=0.6, horizontal_flip=True)
TOKENIZER = Tokenizer([("a", "b</w>")], context_length=8)


def crop(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    return random_crop(image, SIZE, AUGMENT, draw)


@dataclass
class Files:
    """Encoded pictures of many shapes and kinds."""

    length: int
    identity: str = "files"
    class_names: tuple[str, ...] = ()

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        return (self.length,)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Sample:
        width, height = 30 + 17 * (index % 7), 33 + 23 * (index % 5)
        image = Image.fromarray(np.roll(scene(width, height), index, axis=1))
        if index % 11 == 0:
            encoded = encode(image, "PNG")
        else:
            exif = Image.Exif()
            exif[0x0112] = 6 if index % 3 == 0 else 1
            encoded = encode(image, "JPEG", quality=90, exif=exif, progressive=index % 4 == 0)
        return Sample(f"{index:04d}", encoded, self.captions(index), None)

    def captions(self, index: int) -> tuple[str, ...]:
        return ("ab " * (index % 4) + str(index),)

    def place(self, index: int) -> str:
        return "files"


def plain(source: Files, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Read, decode, cut, resize, mirror, tokenize: one after the other, nothing reused."""
    plan = Plan(source, 0)
    images, rows = [], []
    for position in range(count):
        sample, draw = source.read(plan.index(position)), plan.draw(position)
        assert isinstance(sample.image, bytes)
        image = decode(sample.image).contiguous()
        height, width = image.shape[1:]
        share = AUGMENT.min_area + (1 - AUGMENT.min_area) * draw.area
        side = round(min(height, width) * share**0.5)
        top, left = int(draw.y * (height - side + 1)), int(draw.x * (width - side + 1))
        square = image[:, top : top + side, left : left + side][None]
        if side != SIZE:
            square = F.interpolate(square, size=(SIZE, SIZE), mode="bicubic", antialias=True)
        images.append(square[0].flip(-1) if draw.flip < 0.5 else square[0])
        rows.append(TOKENIZER.encode_caption(sample.captions[0])[0])
    return torch.stack(images), pad(rows)


@pytest.mark.property
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_the_plain_path_bit_for_bit(threads):
    source = Files(200)
    samples = Samples(source, Plan(source, 0), TOKENIZER, crop)
    iterator = iter(Loader(samples, 40, world=World(), threads=threads))
    batches = list(itertools.islice(iterator, 3))
    iterator.close()
    images, tokens = plain(source, 120)
    assert torch.equal(torch.cat([batch.images for batch in batches]), images)
    # Batches that were handed out are left alone by those that came later.
    assert all(batch.images.is_contiguous() for batch in batches)
    for n, batch in enumerate(batches):
        rows = tokens[40 * n : 40 * (n + 1), : batch.tokens.shape[1]]
        assert torch.equal(batch.tokens, rows)


@pytest.mark.property
def test_reduced_decoding_gives_nearly_the_same_pairs():
    source = Files(200)
    pictures = [
        next(iter(Loader(samples, 120, world=World(), threads=0)))
        for samples in (
            Samples(source, Plan(source, 0), TOKENIZER, crop),
            Samples(
                source,
                Plan(source, 0),
                TOKENIZER,
                crop,
                shorter_side=lambda draw: shorter_side(SIZE, AUGMENT, draw),
            ),
        )
    ]
    exact, fast = pictures
    assert torch.equal(exact.tokens, fast.tokens)
    assert exact.keys == fast.keys
    apart = (exact.images.int() - fast.images.int()).abs().float().mean(dim=(1, 2, 3))
    assert 0.1 < (apart > 0).float().mean() < 0.9  # the smaller pictures are decoded whole
    # Levels of 255, in pictures that are hard edges at this size; photographs differ by 1 to 2.
    assert apart.max() < 16
    assert apart.mean() < 3


@pytest.mark.behaviour
@pytest.mark.skipif(not STATUS.is_file(), reason="needs /proc to measure memory")
def test_memory_stays_flat_over_a_thousand_batches():
    kept = [Files(48).read(n) for n in range(48)]  # encoding is not what is measured

    class Kept(Files):
        def read(self, index: int) -> Sample:
            return kept[index]

    source = Kept(48)
    samples = Samples(
        source,
        Plan(source, 0),
        TOKENIZER,
        lambda image, draw: random_crop(image, 96, AUGMENT, draw),
    )
    iterator = iter(Loader(samples, 1, world=World(), threads=2))
    held = []
    for n, _ in enumerate(itertools.islice(iterator, 1000), 1):
        if n in (100, 1000):
            held.append(int(STATUS.read_text().split()[1]) * PAGE)
    iterator.close()
    # The last 900 batches were 25 MB as they are trained on, and as much as decoded.
    assert held[1] - held[0] < 4_000_000


@pytest.mark.behaviour
def test_a_small_batch_is_work_for_every_thread():
    together = threading.Barrier(8, timeout=20)

    class Meeting(Files):
        def read(self, index: int) -> Sample:
            together.wait()
            return super().read(index)

    source = Meeting(40)
    samples = Samples(source, Plan(source, 0), TOKENIZER, crop)
    iterator = iter(Loader(samples, 8, world=World(), threads=8))
    # Three batches are under way at a time: were each one job, five threads would have none.
    assert next(iterator).images.shape == (8, 3, SIZE, SIZE)
    together.abort()  # whoever waits for threads that have nothing more to do
    iterator.close()
