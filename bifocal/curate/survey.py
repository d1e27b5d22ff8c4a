"""A first look at data: their size from the index, everything else from a sample of them.

Knows how little suffices for a rough figure; finds no faults (that is `checkup`).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bifocal.curate.crew import Joined
from bifocal.curate.wording import Wording
from bifocal.data.loader import read_image
from bifocal.errors import DataError
from bifocal.inputs.tokenizer import Tokenizer


@dataclass(frozen=True)
class Survey:
    """What a sample says of a source.

    Attributes:
        samples, shards: of the source, from its index.
        losses: what the index could make no sample of, by place and reason.
        looked: samples that were read.
        damage: what could not be read of them, by place and reason.
        labels: class names.
        wording: of the captions read.
        captions: how many a sample has.
        sizes: bytes of the pictures' files; empty where pictures are no files.
        shapes: heights and widths.
        seconds: that decoding each picture took on one thread.
    """

    samples: int
    shards: int
    losses: Counter[tuple[str, str]]
    looked: int
    damage: Counter[tuple[str, str]]
    labels: int
    wording: Wording
    captions: list[int]
    sizes: list[int]
    shapes: list[tuple[int, int]]
    seconds: list[float]

    def figures(self) -> dict[str, object]:
        """Return everything as plain data; what is of no sample is None."""
        sides = np.array(self.shapes, np.float64).reshape(-1, 2)
        decode = float(np.median(self.seconds)) if self.seconds else None
        size = float(np.mean(self.sizes)) if self.sizes else None
        return {
            "format": "bifocal.stats/1",
            "samples": self.samples,
            "shards": self.shards,
            "left_out": self.losses.total(),
            "classes": self.labels,
            "looked": self.looked,
            "damaged": self.damage.total(),
            "picture_bytes": None if size is None else size * self.samples,
            "bytes_a_picture": _summary(np.array(self.sizes, np.float64)),
            "shorter_side": _summary(sides.min(axis=1) if len(sides) else sides[:, 0]),
            "longer_side": _summary(sides.max(axis=1) if len(sides) else sides[:, 0]),
            "captions_a_picture": _summary(np.array(self.captions, np.float64)),
            "words_a_caption": _summary(_values(self.wording.words)),
            "tokens_a_caption": _summary(_values(self.wording.tokens)),
            "longer_than_the_context": self.wording.cut if self.wording.tokenizer else None,
            "scripts": dict(self.wording.scripts.most_common()),
            "decode_milliseconds": None if decode is None else 1000 * decode,
            "decode_hours": None if decode is None else decode * self.samples / 3600,
        }


def survey(joined: Joined, sample: int, tokenizer: Tokenizer | None = None) -> Survey:
    """Return what `sample` evenly spread samples say of a source.

    Raises:
        DataError: none of them can be read.
    """
    source = joined.sources[0]
    chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round())
    found = Survey(
        samples=len(source),
        shards=len(source.shard_sizes),
        losses=joined.losses(0),
        looked=len(chosen),
        damage=Counter(),
        labels=len(source.class_names),
        wording=Wording(tokenizer),
        captions=[],
        sizes=[],
        shapes=[],
        seconds=[],
    )
    for position in chosen.astype(int).tolist():
        try:
            _add(found, joined, position)
        except DataError as error:
            found.damage[source.place(position), str(error)] += 1
    if not found.shapes:
        (place, reason), times = found.damage.most_common(1)[0]
        raise DataError(f"none of {len(chosen)} samples can be read: {times}x {reason} in {place}")
    return found


def _add(found: Survey, joined: Joined, position: int) -> None:
    sample = joined.read(position)
    began = time.perf_counter()
    image = read_image(sample)
    found.seconds.append(time.perf_counter() - began)
    found.shapes.append((image.shape[1], image.shape[2]))
    found.captions.append(len(sample.captions))
    if isinstance(sample.image, bytes):
        found.sizes.append(len(sample.image))
    found.wording.add(position, sample.captions)


def _values(counts: Counter[int]) -> Float[np.ndarray, " n"]:
    return np.repeat(np.array(list(counts), np.float64), list(counts.values()))


def _summary(values: Float[np.ndarray, " n"]) -> dict[str, float] | None:
    """Return the mean, three quantiles and both ends."""
    if not values.size:
        return None
    names = ("least", "5%", "median", "95%", "most")
    quantiles = np.quantile(values, (0, 0.05, 0.5, 0.95, 1)).tolist()
    return {"mean": float(values.mean()), **dict(zip(names, quantiles, strict=True))}
