"""What an evaluation reads of pictures, from a folder of features instead of from a tower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed.embedded import Embedded
from bifocal.embed.job import Kind
from bifocal.pretrained import Pretrained


@dataclass(frozen=True, slots=True)
class Encoded:
    """Features of a source's pictures, beside what is known of each; all float32, in order.

    A tower has just said them, or a folder keeps what it said.
    """

    features: Float[Tensor, "images dim"]
    indices: Int[Tensor, " images"]
    """Source index of each picture."""
    labels: Int[Tensor, " images"]
    """Class of each picture, or -1."""
    captions: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]
    """What the source calls each picture."""
    skipped: int = 0
    """Pictures among the samples asked for that could not be read."""
    text_features: Float[Tensor, "texts embed_dim"] | None = None
    """Of all captions, picture by picture; None where only pictures were encoded."""


def stored_pictures(
    embedded: Embedded,
    pretrained: Pretrained,
    source: Source,
    *,
    kind: Kind = "projected",
    limit: int | None = None,
) -> Encoded:
    """Return what the tower would say of the first `limit` pictures of a source.

    Features that were stored as float16, or computed in half precision, are not the tower's own to
    the last bit.

    Raises:
        CheckpointError: these are features of another model, of pictures prepared in another way,
            of other data, or of another kind.
    """
    rows = embedded.check(pretrained, source, kind=kind, limit=limit)
    indices = torch.from_numpy(np.array(embedded.indices[:rows]))
    texts = None
    captions: tuple[tuple[str, ...], ...]
    if "texts" in embedded.meta["files"]:
        count = int(np.searchsorted(embedded.owners, rows))
        texts = torch.from_numpy(np.array(embedded.text_features[:count], dtype=np.float32))
        own: list[list[str]] = [[] for _ in range(rows)]
        owners = embedded.owners[:count].tolist()
        for owner, text in zip(owners, embedded.captions(range(count)), strict=True):
            own[owner].append(text)
        captions = tuple(map(tuple, own))
    else:
        captions = tuple(source.captions(index) for index in indices.tolist())
    return Encoded(
        features=torch.from_numpy(np.array(embedded.image_features[:rows], dtype=np.float32)),
        indices=indices,
        labels=torch.from_numpy(np.array(embedded.labels[:rows])),
        captions=captions,
        keys=tuple(embedded.keys(range(rows))),
        text_features=texts,
        skipped=min(len(source), limit or len(source)) - rows,
    )
