"""Image and text features of a labelled or captioned source, in order.

Reads every sample once; what cannot be read is counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bifocal.data.loader import Skips, read_image
from bifocal.data.sample import Sample, Source
from bifocal.errors import DataError
from bifocal.pretrained import Pretrained

BATCH = 250


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Features of a source's pictures, beside what is known of each."""

    features: Float[Tensor, "images embed_dim"]
    indices: Int[Tensor, " images"]
    """Source index of each picture that could be read."""
    labels: Int[Tensor, " images"]
    """Class of each picture, or -1."""
    captions: tuple[tuple[str, ...], ...]


@torch.inference_mode()
def encode_pictures(
    pretrained: Pretrained, source: Source, skips: Skips, limit: int | None = None, threads: int = 2
) -> Evaluated:
    """Return features of the first `limit` pictures of a source.

    Raises:
        DataError: none can be read, or too many cannot.
    """
    count = min(len(source), limit or len(source))
    parts: list[Tensor] = []
    kept: list[tuple[int, Sample]] = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for span in _spans(count):
            read = pool.map(lambda n: _fitted(pretrained, source, n, skips), span)
            good = [one for one in read if one is not None]
            if not good:
                continue
            images = torch.stack([image for _, _, image in good]).to(pretrained.device)
            normal = pretrained.preprocess.normalize(images)
            parts.append(pretrained.model.encode_image(normal).float().cpu())
            kept += [(index, sample) for index, sample, _ in good]
    if not kept:
        raise DataError(f"no picture of {count} could be read:\n{skips.describe()}")
    labels = [-1 if sample.label is None else sample.label for _, sample in kept]
    return Evaluated(
        features=torch.cat(parts),
        indices=torch.tensor([index for index, _ in kept]),
        labels=torch.tensor(labels),
        captions=tuple(sample.captions for _, sample in kept),
    )


def _spans(count: int) -> Iterator[range]:
    return (range(n, min(n + BATCH, count)) for n in range(0, count, BATCH))


def _fitted(
    pretrained: Pretrained, source: Source, index: int, skips: Skips
) -> tuple[int, Sample, UInt8[Tensor, "3 size size"]] | None:
    skips.saw(1, 0)
    try:
        sample = source.read(index)
        image = pretrained.preprocess.fit(read_image(sample))
    except DataError as error:
        skips.bad(source.place(index), str(error))
        return None
    # The picture's bytes are not needed any more; a whole data set of them would not fit.
    return index, Sample(sample.key, b"", sample.captions, sample.label), image
