"""A few steps of a real run on invented pairs, to see what it takes on this machine.

The run, its step and its loss are those of training; only the pairs are made up, noise that every
tower reads as fast as pictures and captions.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bifocal.data.batch import Batch
from bifocal.data.sources import Reading, open_source
from bifocal.inputs.tokenizer import BASE_SIZE, Tokenizer, byte_characters
from bifocal.loss.predictive import Loss
from bifocal.train.config import RunConfig
from bifocal.train.cost import flops, setup_of
from bifocal.train.objective import loss_of
from bifocal.train.state import Run, new_run
from bifocal.train.step import train_step
from bifocal.types import Cursor
from bifocal.world import World

WARM_UP, TIMED = 1, 3
"""Steps before the clock starts, and with it running."""
TRIED = {"cpu": 16, "cuda": 256}
"""Pairs of such a step, by device."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A run, the one batch that it reads again and again, and its loss."""

    run: Run
    batch: Batch
    loss_fn: Loss

    def step(self) -> float:
        """Make one step; return its seconds, the device's queue included."""
        began = time.perf_counter()
        train_step(self.run, self.batch, self.loss_fn)
        if self.run.world.device.type != "cpu":
            torch.accelerator.synchronize(self.run.world.device)
        return time.perf_counter() - began

    def seconds(self) -> float:
        """Return the median time of a step."""
        for _ in range(WARM_UP):
            self.step()
        return statistics.median(self.step() for _ in range(TIMED))


def trial(config: RunConfig, length: int, world: World) -> Trial:
    """Return a run of `config` at its first step, without its data, vocabulary or first weights.

    Args:
        config: the run; its batch is this process's.
        length: tokens of every caption.
        world: rank and device.
    """
    source = open_source("scenes:train:1", Reading())
    size, context_length = config.model.text.vocab_size, config.model.text.context_length
    run = new_run(config, source, _vocabulary(size, context_length), world)
    pairs, pixels = config.data.batch_size, config.model.vision.image_size
    random = torch.Generator().manual_seed(config.seed)
    if config.data.image_features:
        images = F.normalize(torch.randn(pairs, config.model.embed_dim, generator=random), dim=1)
    else:
        shape = (pairs, 3, pixels, pixels)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    tokens = torch.randint(0, size - 1, (pairs, length), generator=random)
    tokens[:, -1] = size - 1
    batch = Batch(
        images=images,
        tokens=tokens,
        lengths=torch.full((pairs,), length),
        keys=tuple(map(str, range(pairs))),
        positions=torch.arange(pairs),
        cursor=Cursor(0, source.identity),
    )
    return Trial(run, batch, loss_of(config))


def achieved(config: RunConfig, length: int, world: World) -> float:
    """Return the operations a second that this process's device achieves in real steps.

    They are steps of a small batch read whole, of which the optimizer takes a larger share than of
    a large one: the rate is rather too low than too high.
    """
    pairs = min(TRIED.get(world.device.type, TRIED["cuda"]), config.data.batch_size)
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"batch_size": pairs}),
            "train": config.train.model_copy(update={"chunk_size": 0}),
        }
    )
    counted = flops(setup_of(config, length=length)).total * pairs
    return counted / trial(config, length, world).seconds()


def _vocabulary(size: int, context_length: int) -> Tokenizer:
    """Return a vocabulary of that size that nothing is read with."""
    pairs = itertools.product(byte_characters(), byte_characters())
    return Tokenizer(tuple(itertools.islice(pairs, size - BASE_SIZE)), context_length)
