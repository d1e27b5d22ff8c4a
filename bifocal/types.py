"""Shape letters and the small types that several rooms share.

Legend of the shape names in signatures (jaxtyping):

    batch       pairs, pictures or captions in one call
    embed_dim   width of the space in which both towers meet
    length      tokens of a caption, at most context_length
    width       channels of a transformer's residual stream
    height      rows of a picture or feature map, in pixels or patches
    classes     names of a zero-shot task
    images, texts   rows of two embedding matrices that need not be equally long

Annotations are read by people and type checkers; the test suite switches their run-time check
on (see tests/conftest.py), production does not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """What the two towers say of a batch of pairs.

    `image` and `text` have unit norm; `logit_scale` is the multiplier itself (already
    exponentiated), paper section 2.3.
    """

    image: Float[Tensor, "batch embed_dim"]
    text: Float[Tensor, "batch embed_dim"]
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""] | None = None


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which pairs have a picture or a caption in common: equal numbers, equal things."""

    image: Int[Tensor, " batch"]
    text: Int[Tensor, " batch"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a run stands in its data: the next position, and the identity of the data.

    Positions count samples from the beginning of training, over all epochs and ranks, so one
    integer is the same for every number of ranks and threads.
    """

    position: int
    identity: str
