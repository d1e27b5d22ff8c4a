"""From samples to a block of features: read ahead in threads, run through the towers in batches.

A sample that cannot be read is left out and counted. The pictures of a batch are always the same
ones, whoever computes it, so that a block's bits are too.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from bifocal.data.loader import read_image
from bifocal.data.perceptual import THUMBNAIL, perceptual_hash, thumbnail
from bifocal.data.sample import Source
from bifocal.embed.columns import SKIPPED, Block, lines
from bifocal.embed.job import Job, Kind
from bifocal.errors import DataError
from bifocal.model.config import VisionTransformerConfig
from bifocal.precision import autocast
from bifocal.pretrained import Pretrained

READ_TOGETHER = 16
"""Samples that one thread prepares at a time: enough to hide the cost of handing over."""
BATCHES_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sample that was read; why not, if it has a `fault`."""

    index: int
    key: str = ""
    label: int = -1
    captions: tuple[str, ...] = ()
    image: UInt8[Tensor, "3 size size"] | None = None
    hash: int = 0
    thumbnail: UInt8[np.ndarray, "side side"] | None = None
    fault: str = ""

    def without_image(self) -> Prepared:
        """Return the same sample once its picture is not needed any more."""
        return replace(self, image=None)


Batch = Sequence[Prepared]


@dataclass(frozen=True)
class Encoder:
    """Both towers and a source, as a job wants them used."""

    pretrained: Pretrained
    source: Source
    job: Job

    @contextmanager
    def batches(self, spans: Iterable[range], threads: int) -> Generator[Iterator[Batch]]:
        """Yield an iterator over the samples of each span, read ahead of their use."""
        pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="embed")
        try:
            yield self._read_ahead(pool, spans)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read_ahead(self, pool: ThreadPoolExecutor, spans: Iterable[range]) -> Iterator[Batch]:
        waiting: deque[list[Future[Batch]]] = deque()
        for span in spans:
            parts = (span[n : n + READ_TOGETHER] for n in range(0, len(span), READ_TOGETHER))
            waiting.append([pool.submit(self._prepare_all, part) for part in parts])
            if len(waiting) > BATCHES_AHEAD:
                yield [one for job in waiting.popleft() for one in job.result()]
        while waiting:
            yield [one for job in waiting.popleft() for one in job.result()]

    def _prepare_all(self, indices: range) -> Batch:
        return [self._prepare(index) for index in indices]

    def _prepare(self, index: int) -> Prepared:
        try:
            if self.job.what == "texts":
                return Prepared(index, str(index), captions=self.source.captions(index))
            sample = self.source.read(index)
            image = read_image(sample)
            return Prepared(
                index,
                sample.key,
                -1 if sample.label is None else sample.label,
                sample.captions,
                self.pretrained.preprocess.fit(image),
                perceptual_hash(image) if self.job.hashes else 0,
                thumbnail(image) if self.job.hashes else None,
            )
        except DataError as error:
            return Prepared(index, fault=str(error))

    @torch.inference_mode()
    def image_features(self, batch: Batch) -> list[Float[np.ndarray, "images dim"]]:
        """Return the matrix of the features of a batch's pictures, or nothing if it has none."""
        found = [one.image for one in batch if one.image is not None]
        if not found:
            return []
        pretrained, job = self.pretrained, self.job
        images = torch.stack(found).to(pretrained.device)
        with autocast(job.precision, pretrained.device):
            normal = pretrained.preprocess.normalize(images)
            if job.kind == "penultimate":
                features = pretrained.model.visual.penultimate(normal)
            else:
                features = pretrained.model.encode_image(normal)
        features = features.float()
        if job.precision != "float32" and job.kind == "projected":
            features = F.normalize(features, dim=-1)
        return [self._stored(features)]

    def text_features(self, texts: Sequence[str]) -> Float[np.ndarray, "texts embed_dim"]:
        """Return the features of texts; those that occur twice are read once."""
        # Captions of like length side by side: a batch costs what its longest does.
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        with autocast(self.job.precision, self.pretrained.device):
            features = self.pretrained.encode_text(unique, self.job.batch_size)
        if self.job.precision != "float32":
            features = F.normalize(features, dim=-1)
        place = {text: row for row, text in enumerate(unique)}
        return self._stored(features)[[place[text] for text in texts]]

    def assemble(self, samples: Batch, images: Sequence[np.ndarray]) -> Block:
        """Return the block of samples, with the features of their pictures."""
        job = self.job
        kept = [one for one in samples if not one.fault]
        keys, key_ends = lines(one.key for one in kept)
        skipped = Counter(one.fault for one in samples if one.fault)
        block = {
            "indices": np.array([one.index for one in kept], dtype=np.int64),
            "keys": keys,
            "key_ends": key_ends,
            SKIPPED: np.frombuffer(json.dumps(skipped).encode(), dtype=np.uint8),
        }
        if job.what != "texts":
            block["labels"] = np.array([one.label for one in kept], dtype=np.int64)
            block["images"] = np.concatenate([self._nothing(job.kind), *images])
        if job.hashes:
            block["hashes"] = np.array([one.hash for one in kept], dtype=np.uint64)
            small = [one.thumbnail for one in kept if one.thumbnail is not None]
            block["thumbnails"] = np.array(small, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
        if job.what != "images":
            owners = [row for row, one in enumerate(kept) for _ in one.captions]
            texts = [text for one in kept for text in one.captions]
            captions, caption_ends = lines(texts)
            block |= {
                "texts": self.text_features(texts) if texts else self._nothing("projected"),
                "owners": np.array(owners, dtype=np.int64),
                "captions": captions,
                "caption_ends": caption_ends,
            }
        return block

    def _stored(self, features: Tensor) -> Float[np.ndarray, "rows dim"]:
        return features.cpu().numpy().astype(self.job.dtype)

    def _nothing(self, kind: Kind) -> Float[np.ndarray, "0 dim"]:
        config = self.pretrained.model.config
        before = isinstance(config.vision, VisionTransformerConfig) and kind == "penultimate"
        width = config.vision.width if before else config.embed_dim
        return np.empty((0, width), dtype=self.job.dtype)
