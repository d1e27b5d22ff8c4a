"""Image and text features of a labelled or captioned source, in order.

Reads every sample once; what cannot be read is counted and left out. Features that were embedded
before are read from their folder instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from bifocal.data.loader import Skips, read_image
from bifocal.data.sample import Sample, Source
from bifocal.embed import Embedded, Encoded, Kind, stored_pictures
from bifocal.errors import ConfigError, DataError
from bifocal.pretrained import Pretrained, Told, quiet

BATCH = 250
_log = logging.getLogger(__name__)
Read = Callable[[Tensor], Tensor]
"""Normalised pictures to one row each."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """How pictures are read.

    Attributes:
        limit: pictures to read at most, from the first; all if None.
        threads: that read and decode.
        kind: features of the shared space, of unit norm, or those that probes read.
        stored: features that were embedded before, to be used instead of the tower.
    """

    limit: int | None = None
    threads: int = 2
    kind: Kind = "projected"
    stored: Embedded | None = None


ALL = Pictures()


@torch.inference_mode()
def encode_pictures(
    pretrained: Pretrained,
    source: Source,
    how: Pictures = ALL,
    told: Told = quiet,
    read: Read | None = None,
) -> Encoded:
    """Return features of the pictures of a source.

    Args:
        pretrained: the model.
        source: of the pictures.
        how: which of them, and what of them.
        told: hears after every batch how many pictures of how many are done.
        read: what is made of normalised pictures instead of features.

    Raises:
        DataError: none can be read, or too many cannot.
        CheckpointError: the stored features are not of this model and data.
        ConfigError: features are stored, but something else is asked for.
    """
    if how.stored is not None:
        if read is not None:
            raise ConfigError(
                f"features in {how.stored.folder} do not say what this model predicts: leave them "
                "out, and its pictures are read"
            )
        return _from_folder(how.stored, pretrained, source, how)
    skips = Skips()
    count = min(len(source), how.limit or len(source))
    read = read or _tower(pretrained, how.kind)
    parts: list[Tensor] = []
    kept: list[tuple[int, Sample]] = []
    with ThreadPoolExecutor(max(1, how.threads)) as pool:
        for span in _spans(count):
            fitted = pool.map(lambda n: _fitted(pretrained, source, n, skips), span)
            good = [one for one in fitted if one is not None]
            if good:
                images = torch.stack([image for _, _, image in good]).to(pretrained.device)
                normal = pretrained.preprocess.normalize(images)
                parts.append(read(normal).float().cpu())
                kept += [(index, sample) for index, sample, _ in good]
            told(span.stop, count)
    if not kept:
        raise DataError(f"no picture of {count} could be read:\n{skips.describe()}")
    if skips.counts:
        _log.warning("pictures that cannot be read are left out:\n%s", skips.describe())
    labels = [-1 if sample.label is None else sample.label for _, sample in kept]
    return Encoded(
        features=torch.cat(parts),
        indices=torch.tensor([index for index, _ in kept]),
        labels=torch.tensor(labels),
        captions=tuple(sample.captions for _, sample in kept),
        keys=tuple(sample.key for _, sample in kept),
        skipped=skips.counts.total(),
    )


def check_finite(*features: Tensor) -> None:
    """Raise DataError if some features are no finite numbers: every rank of theirs is a lie."""
    if not all(bool(one.isfinite().all()) for one in features):
        raise DataError("some features are not finite numbers: the model is damaged or diverged")


def _tower(pretrained: Pretrained, kind: Kind) -> Read:
    model = pretrained.model
    return model.visual.penultimate if kind == "penultimate" else model.encode_image


def _from_folder(
    stored: Embedded, pretrained: Pretrained, source: Source, how: Pictures
) -> Encoded:
    found = stored_pictures(stored, pretrained, source, kind=how.kind, limit=how.limit)
    if not found.keys:
        raise DataError(f"none of the pictures asked for could be read into {stored.folder}")
    return found


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
