"""Batches in the order of the plan, decoded by threads ahead of their use.

A bad sample is replaced by a deterministic substitute and counted, so that every rank always has
a full batch and two runs see the same data. Knows sources and plans; knows nothing of models.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bifocal.data.batch import Batch
from bifocal.data.decode import Scratch, decode, to_tensor
from bifocal.data.plan import Plan
from bifocal.data.sample import Sample, Source
from bifocal.data.skips import Skips
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.preprocess import Draw
from bifocal.inputs.tokenizer import Tokenizer, pad
from bifocal.transfer import pins
from bifocal.types import Cursor
from bifocal.world import World

JOB = 32
"""Most samples that one thread prepares at a time: enough to hide the cost of handing over."""
ATTEMPTS = 16

Picture = UInt8[Tensor, "3 height width"] | Float[Tensor, " embed_dim"]
Transform = Callable[[UInt8[Tensor, "3 height width"], Draw], UInt8[Tensor, "3 size size"]]


class Canvas:
    """The pictures of one batch, laid in place by the threads that make them.

    Its memory is taken when the first picture shows how large they are.

    Args:
        rows: how many pictures there will be.
        pinned: whether a device will fetch them by itself.
    """

    def __init__(self, rows: int, *, pinned: bool = False) -> None:
        self._rows = rows
        self._pinned = pinned
        self._images: Tensor | None = None
        self._lock = threading.Lock()

    def lay(self, row: int, image: Picture) -> None:
        """Copy a picture, or the features that stand for it, to its row."""
        with self._lock:
            if self._images is None:
                self._images = torch.empty(
                    (self._rows, *image.shape), dtype=image.dtype, pin_memory=self._pinned
                )
        np.copyto(self._images.numpy()[row], image.numpy())

    @property
    def images(self) -> UInt8[Tensor, "rows 3 size size"] | Float[Tensor, "rows embed_dim"]:
        """The pictures, once all are there; shares the memory."""
        assert self._images is not None, "no picture was laid"
        return self._images


class _Prepared(NamedTuple):
    tokens: list[int]
    key: str
    number: int


@dataclass(frozen=True)
class Samples:
    """What stands at each position, ready to be trained on.

    Attributes:
        source: the samples.
        plan: their order.
        tokenizer: makes ids of captions.
        transform: picture and draw to the training picture.
        skips: counts what is left out.
        shorter_side: pixels of the shorter side that the transform needs under a draw; decoding
            may leave no more. None decodes every picture whole.
    """

    source: Source
    plan: Plan
    tokenizer: Tokenizer
    transform: Transform
    skips: Skips = field(default_factory=Skips)
    shorter_side: Callable[[Draw], int] | None = None
    _scratch: Scratch = field(default_factory=Scratch, init=False, repr=False, compare=False)

    def prepare(self, positions: range, canvas: Canvas, first: int = 0) -> list[_Prepared]:
        """Return the samples at `positions`, bad ones replaced and counted.

        Their pictures are laid on the canvas, from the row `first` on.

        Raises:
            DataError: too many are bad.
        """
        rows = enumerate(positions, first)
        return [self._prepare(position, canvas, row) for row, position in rows]

    def _prepare(self, position: int, canvas: Canvas, row: int) -> _Prepared:
        draw = self.plan.draw(position)
        index = self.plan.index(position)
        for attempt in range(ATTEMPTS):
            try:
                sample = self.source.read(index)
                if not sample.captions:
                    raise DataError("label without templates")
                image = self._picture(sample, draw)
                caption = sample.captions[int(draw.caption * len(sample.captions))]
                tokens, truncated = self.tokenizer.encode_caption(caption)
                self.skips.saw(1, truncated)
                # Before the next picture: this one may still lie in the scratch memory.
                canvas.lay(row, image)
                return _Prepared(tokens, sample.key, index)
            except DataError as error:
                self.skips.bad(self.source.place(index), str(error))
                index = self.plan.substitute(position, attempt)
        raise DataError(
            f"{ATTEMPTS} samples in a row are bad:\n{self.skips.describe()}\n"
            "look at the data before training on them"
        )

    def _picture(self, sample: Sample, draw: Draw) -> Picture:
        if isinstance(sample.image, np.ndarray) and sample.image.ndim == 1:
            return torch.from_numpy(sample.image)
        least = self.shorter_side(draw) if self.shorter_side else 0
        return self.transform(read_image(sample, least, self._scratch), draw)


class Loader:
    """Iterates over the batches of one rank, for ever.

    Args:
        samples: what stands at each position.
        batch_size: pairs of the global batch; every rank gets an equal part.
        world: rank and size.
        threads: that decode ahead of their use; 0 decodes each batch when it is asked for, which
            is best where the processor that decodes also trains and samples are cheap.
        position: where to begin, as a cursor tells it.

    Raises:
        ConfigError: the batch is larger than the data, or does not divide among the ranks.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        *,
        world: World,
        threads: int = 2,
        position: int = 0,
    ) -> None:
        size = samples.plan.size
        if batch_size > size:
            raise ConfigError(
                f"a batch of {batch_size} pairs from data of {size}: a pair would stand "
                f"beside itself; set data.batch_size to {size} or less"
            )
        if batch_size % world.size:
            raise ConfigError(
                f"data.batch_size {batch_size} does not divide among {world.size} processes"
            )
        self.samples, self.batch_size, self.world = samples, batch_size, world
        self._position = position
        self._threads = threads

    def __iter__(self) -> Generator[Batch, None, None]:
        return self._read_ahead() if self._threads else self._read_now()

    def _read_now(self) -> Generator[Batch, None, None]:
        position = self._position
        while True:
            end = position + self.batch_size
            mine = self._local(position)
            canvas = Canvas(len(mine), pinned=pins(self.world.device))
            yield self._assemble(canvas, self.samples.prepare(mine, canvas), mine, end)
            position = end

    def _read_ahead(self) -> Generator[Batch, None, None]:
        # Two batches beyond the one in use keep the threads busy; what is read ahead is never
        # counted as consumed, since each batch carries its own cursor.
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        waiting: deque[tuple[range, Canvas, list[Future[list[_Prepared]]]]] = deque()
        position = ahead = self._position
        try:
            while True:
                while len(waiting) < 3:
                    mine = self._local(ahead)
                    canvas = Canvas(len(mine), pinned=pins(self.world.device))
                    waiting.append((mine, canvas, self._submit(pool, mine, canvas)))
                    ahead += self.batch_size
                mine, canvas, jobs = waiting.popleft()
                position += self.batch_size
                prepared = [one for job in jobs for one in job.result()]
                yield self._assemble(canvas, prepared, mine, position)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _local(self, start: int) -> range:
        """Return this rank's positions of the global batch that begins at `start`."""
        local = self.batch_size // self.world.size
        first = start + self.world.rank * local
        return range(first, first + local)

    def _submit(
        self, pool: ThreadPoolExecutor, mine: range, canvas: Canvas
    ) -> list[Future[list[_Prepared]]]:
        job = min(JOB, math.ceil(len(mine) / self._threads))  # a small batch has work for all
        return [
            pool.submit(self.samples.prepare, mine[n : n + job], canvas, n)
            for n in range(0, len(mine), job)
        ]

    def _assemble(
        self, canvas: Canvas, prepared: Sequence[_Prepared], mine: range, end: int
    ) -> Batch:
        return Batch(
            images=canvas.images,
            tokens=pad([one.tokens for one in prepared]),
            lengths=torch.tensor([len(one.tokens) for one in prepared]),
            keys=tuple(one.key for one in prepared),
            positions=torch.arange(mine.start, mine.stop),
            cursor=Cursor(end, self.samples.plan.identity),
            samples=tuple(one.number for one in prepared),
        )


def read_image(
    sample: Sample, shorter_side: int = 0, scratch: Scratch | None = None
) -> UInt8[Tensor, "3 height width"]:
    """Return a sample's picture; `shorter_side` and `scratch` are those of `decode`.

    Raises:
        DataError: it cannot be decoded.
    """
    if isinstance(sample.image, bytes):
        return decode(sample.image, shorter_side=shorter_side, scratch=scratch)
    return to_tensor(sample.image)
