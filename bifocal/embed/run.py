"""Embedding a source into a folder: resumable, on one process or many, the same bits every time.

Samples are cut into blocks of a fixed number, each of which is computed by itself and kept in a
file until all are there. Killed at any moment, what was kept is found again; a damaged block is
computed anew. Process r of w computes every w-th block from r on, so that the number of processes
may change between one start and the next.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from importlib import metadata
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from bifocal.data.sample import Source
from bifocal.embed.columns import SKIPPED, Block, read_block, write_block
from bifocal.embed.embedded import META, Embedded
from bifocal.embed.encode import Encoder, Prepared
from bifocal.embed.job import Description, Job, read_json, refuse_other, write_json
from bifocal.embed.merge import merge
from bifocal.errors import CheckpointError, DataError
from bifocal.pretrained import Pretrained, Told, quiet
from bifocal.world import ALONE, World

UNFINISHED, JOB = "unfinished", "job.json"
FEW = 100
"""Bad samples that never stop the work, however large their share."""


def embed(
    pretrained: Pretrained,
    source: Source,
    out: str | Path,
    job: Job | None = None,
    *,
    world: World = ALONE,
    threads: int = 2,
    watch: Told = quiet,
) -> Embedded:
    """Embed a source into a folder, or go on where that was stopped; finished work is only opened.

    Args:
        pretrained: the model, on the device that computes.
        source: pictures, with captions for texts.
        out: the folder, empty, new, or of the same job.
        job: what to embed and how.
        world: processes that share the work; each must see the folder.
        threads: that read and decode.
        watch: hears of samples done and to do, both of this process.

    Raises:
        CheckpointError: the folder holds other features, or cannot be written.
        DataError: too many samples are bad, or none can be used.
    """
    job = job or Job()
    job.check(source)
    description = job.describe(pretrained, source)
    folder = Path(out)
    try:
        if not _is_finished(folder, description):
            if world.leads:
                _begin(folder, description)
            world.wait()
            work = _Work(Encoder(pretrained, source, job), folder / UNFINISHED, world)
            work.compute(threads, watch)
            world.wait()
            if world.leads:
                _finish(work, folder, description)
        elif world.leads:
            shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        world.wait()
    except OSError as error:
        raise CheckpointError(f"cannot write features to {folder}: {error}") from None
    return Embedded.open(folder)


@dataclass
class _Work:
    """The blocks of a job, and which of them are this process's."""

    encoder: Encoder
    folder: Path
    world: World
    seen: int = field(init=False, default=0)
    bad: int = field(init=False, default=0)

    @property
    def blocks(self) -> list[range]:
        job = self.encoder.job
        total = job.samples(self.encoder.source)
        return [range(n, min(n + job.block, total)) for n in range(0, total, job.block)]

    def path(self, number: int) -> Path:
        return self.folder / f"{number:09d}.block"

    def compute(self, threads: int, watch: Told) -> None:
        """Compute the blocks of this process that are not there, whole."""
        blocks = self.blocks
        mine = range(self.world.rank, len(blocks), self.world.size)
        total = sum(len(blocks[number]) for number in mine)
        missing: list[int] = []
        for number in mine:
            block = read_block(self.path(number))
            if block is None:
                missing.append(number)
            else:
                self._count(block, len(blocks[number]))
        watch(self.seen, total)
        spans = chain.from_iterable(self._spans(blocks[number]) for number in missing)
        with self.encoder.batches(spans, threads) as batches:
            for number in missing:
                samples: list[Prepared] = []
                images: list[np.ndarray] = []
                for batch in islice(batches, len(self._spans(blocks[number]))):
                    images += self.encoder.image_features(batch)
                    samples += [one.without_image() for one in batch]
                    watch(self.seen + len(samples), total)
                block = self.encoder.assemble(samples, images)
                write_block(self.path(number), block)
                self._count(block, len(samples))

    def _spans(self, block: range) -> list[range]:
        size = self.encoder.job.batch_size
        return [block[n : n + size] for n in range(0, len(block), size)]

    def _count(self, block: Block, samples: int) -> None:
        reasons: dict[str, int] = json.loads(block[SKIPPED].tobytes())
        self.seen += samples
        self.bad += sum(reasons.values())
        share = self.encoder.job.max_bad
        if self.bad >= FEW and self.bad > share * self.seen:
            shown = "".join(f"\n  {count}x {reason}" for reason, count in reasons.items())
            raise DataError(
                f"{self.bad:,} of {self.seen:,} samples are bad, more than the share of "
                f"{share:.0%} that max_bad allows; the last block had:{shown}"
            )


def _is_finished(folder: Path, description: Description) -> bool:
    found = read_json(folder / META)
    if found is not None:
        refuse_other(folder, found, description)
    return found is not None


def _begin(folder: Path, description: Description) -> None:
    """Make the folder, or see that it holds the same work."""
    work = folder / UNFINISHED
    found = read_json(work / JOB)
    if found is not None:
        refuse_other(folder, found, description)
        return
    folder.mkdir(parents=True, exist_ok=True)
    strange = sorted(path.name for path in folder.iterdir() if path != work)
    if strange:
        raise CheckpointError(
            f"{folder} is not empty ({', '.join(strange[:3])}): give a new folder for the features"
        )
    write_json(work / JOB, description)


def _finish(work: _Work, folder: Path, description: Description) -> None:
    """Write the files of the folder, then the table that says it is finished."""
    lengths, skipped = merge(map(work.path, range(len(work.blocks))), folder)
    has_rows = lengths["indices"] if "images" in lengths else lengths["owners"]
    if not has_rows:
        reasons = "".join(f"\n  {count}x {reason}" for reason, count in skipped.items())
        why = "" if "images" in lengths else ": the samples have no captions"
        raise DataError(f"no sample can be used{why}: nothing was embedded{reasons}")
    meta = {
        **description,
        "rows": lengths["indices"],
        "files": lengths,
        "skipped": skipped,
        "versions": {"bifocal": metadata.version("bifocal"), "torch": torch.__version__},
    }
    write_json(folder / META, meta)
    shutil.rmtree(work.folder, ignore_errors=True)
