"""Batches in the order of the plan, decoded by threads ahead of their use.

A bad sample is replaced by a deterministic substitute and counted, so that every rank always has
a full batch and two runs see the same data. Knows sources and plans; knows nothing of models.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from bifocal.data.batch import Batch
from bifocal.data.decode import decode, to_tensor
from bifocal.data.plan import Plan
from bifocal.data.sample import Sample, Source
from bifocal.errors import ConfigError, DataError
from bifocal.inputs.preprocess import Draw
from bifocal.inputs.tokenizer import Tokenizer, pad
from bifocal.types import Cursor
from bifocal.world import World

JOB = 32
"""Samples that one thread prepares at a time: enough to hide the cost of handing over."""
ATTEMPTS = 16

Transform = Callable[[UInt8[Tensor, "3 height width"], Draw], UInt8[Tensor, "3 size size"]]


class Skips:
    """Counts what was left out or cut, by (shard or source, reason); safe from threads.

    Args:
        limit: largest share of samples that may be bad before the run is stopped.
    """

    MINIMUM = 100

    def __init__(self, limit: float = 0.1) -> None:
        self.limit = limit
        self.counts: Counter[tuple[str, str]] = Counter()
        self.truncated = 0
        self.seen = 0
        self._lock = threading.Lock()

    def saw(self, samples: int, truncated: int) -> None:
        """Count samples prepared, and captions cut to the context among them."""
        with self._lock:
            self.seen += samples
            self.truncated += truncated

    def bad(self, place: str, reason: str) -> None:
        """Count one sample that could not be used.

        Raises:
            DataError: too large a share of the samples is bad.
        """
        with self._lock:
            self.counts[place, reason] += 1
            bad = self.counts.total()
            if bad >= self.MINIMUM and bad > self.limit * (self.seen + bad):
                raise DataError(
                    f"{bad} of {self.seen + bad} samples are bad, more than the share of "
                    f"{self.limit:.0%} that data.max_bad allows:\n{self.describe()}"
                )

    def describe(self) -> str:
        """Return one line a (place, reason), the most frequent first."""
        rows = self.counts.most_common(8)
        return "\n".join(f"  {count}x {reason} in {place}" for (place, reason), count in rows)


class _Prepared(NamedTuple):
    image: UInt8[Tensor, "3 size size"]
    tokens: list[int]
    key: str


@dataclass(frozen=True)
class Samples:
    """What stands at each position, ready to be trained on.

    Attributes:
        source: the samples.
        plan: their order.
        tokenizer: makes ids of captions.
        transform: picture and draw to the training picture.
        skips: counts what is left out.
    """

    source: Source
    plan: Plan
    tokenizer: Tokenizer
    transform: Transform
    skips: Skips = field(default_factory=Skips)

    def prepare(self, positions: range) -> list[_Prepared]:
        """Return the samples at `positions`, bad ones replaced and counted.

        Raises:
            DataError: too many are bad.
        """
        return [self._prepare(position) for position in positions]

    def _prepare(self, position: int) -> _Prepared:
        draw = self.plan.draw(position)
        index = self.plan.index(position)
        for attempt in range(ATTEMPTS):
            try:
                sample = self.source.read(index)
                if not sample.captions:
                    raise DataError("label without templates")
                image = self.transform(read_image(sample), draw)
                caption = sample.captions[int(draw.caption * len(sample.captions))]
                tokens, truncated = self.tokenizer.encode_caption(caption)
                self.skips.saw(1, truncated)
                return _Prepared(image, tokens, sample.key)
            except DataError as error:
                self.skips.bad(self.source.place(index), str(error))
                index = self.plan.substitute(position, attempt)
        raise DataError(
            f"{ATTEMPTS} samples in a row are bad:\n{self.skips.describe()}\n"
            "look at the data before training on them"
        )


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
            yield self._assemble(self.samples.prepare(mine), mine, end)
            position = end

    def _read_ahead(self) -> Generator[Batch, None, None]:
        # Two batches beyond the one in use keep the threads busy; what is read ahead is never
        # counted as consumed, since each batch carries its own cursor.
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        waiting: deque[tuple[range, list[Future[list[_Prepared]]]]] = deque()
        position = ahead = self._position
        try:
            while True:
                while len(waiting) < 3:
                    mine = self._local(ahead)
                    waiting.append((mine, self._submit(pool, mine)))
                    ahead += self.batch_size
                mine, jobs = waiting.popleft()
                position += self.batch_size
                yield self._assemble([one for job in jobs for one in job.result()], mine, position)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _local(self, start: int) -> range:
        """Return this rank's positions of the global batch that begins at `start`."""
        local = self.batch_size // self.world.size
        first = start + self.world.rank * local
        return range(first, first + local)

    def _submit(self, pool: ThreadPoolExecutor, mine: range) -> list[Future[list[_Prepared]]]:
        spans = [mine[n : n + JOB] for n in range(0, len(mine), JOB)]
        return [pool.submit(self.samples.prepare, span) for span in spans]

    def _assemble(self, prepared: Sequence[_Prepared], mine: range, end: int) -> Batch:
        return Batch(
            images=torch.stack([one.image for one in prepared]),
            tokens=pad([one.tokens for one in prepared]),
            lengths=torch.tensor([len(one.tokens) for one in prepared]),
            keys=tuple(one.key for one in prepared),
            positions=torch.arange(mine.start, mine.stop),
            cursor=Cursor(end, self.samples.plan.identity),
        )


def read_image(sample: Sample) -> UInt8[Tensor, "3 height width"]:
    """Return a sample's picture.

    Raises:
        DataError: it cannot be decoded.
    """
    return decode(sample.image) if isinstance(sample.image, bytes) else to_tensor(sample.image)
