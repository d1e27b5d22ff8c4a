"""Batches of any size: features of all chunks first, then one backward pass a chunk.

Gradient caching (Gao et al. 2021, arXiv 2101.06983). The contrastive loss couples all pairs of a
batch, so that gradients of parts cannot simply be added up; but it couples them through their
features alone. Features are small: they are computed without a graph, the loss gives their
gradients, and each chunk is then read again and differentiated. A batch of one chunk keeps its
graph and is read once. All randomness of a reading comes from the pairs' places in the run, so
that the second reading is the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.batch import Batch
from bifocal.model.clip import TwoTowers
from bifocal.model.config import VisionTransformerConfig
from bifocal.precision import autocast
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.patch_dropout import kept_patches
from bifocal.train.state import Run
from bifocal.types import Features


def embed_chunks(run: Run, chunks: Sequence[Batch], statistics: RunningStatistics) -> Features:
    """Return features of all chunks, with their graph if there is one chunk."""
    read = []
    with torch.set_grad_enabled(len(chunks) == 1):
        for number, chunk in enumerate(chunks):
            statistics.chunk(number)
            read.append(_read(run, chunk))
    statistics.replay()
    if len(chunks) == 1:
        return read[0]
    return Features(
        torch.cat([features.image for features in read]),
        torch.cat([features.text for features in read]),
        run.model.logit_scale.exp(),
        run.model.logit_bias,
    )


def backward_chunks(
    run: Run, chunks: Sequence[Batch], features: Features, gradients: Features
) -> None:
    """Carry gradients of features on to the parameters, reading each of several chunks again.

    Args:
        run: whose model is differentiated.
        chunks: the batch.
        features: what `embed_chunks` returned.
        gradients: of the loss by those features.
    """
    if run.scaler:
        gradients = scaled(gradients, run.scaler.scale)
    backward(features, gradients)  # of several chunks: the multiplier and the bias, no more
    if len(chunks) == 1:
        return
    first = 0
    for chunk in chunks:
        rows = slice(first, first + len(chunk.images))
        part = Features(gradients.image[rows], gradients.text[rows], gradients.logit_scale)
        read = _read(run, chunk)
        backward(Features(read.image, read.text, features.logit_scale.detach()), part)
        first = rows.stop


def scaled(gradients: Features, factor: float) -> Features:
    """Return gradients multiplied by `factor`."""
    bias = gradients.logit_bias
    return Features(
        gradients.image * factor,
        gradients.text * factor,
        gradients.logit_scale * factor,
        None if bias is None else bias * factor,
    )


def backward(features: Features, gradients: Features) -> None:
    """Carry gradients of features on to whatever parameters they come from."""
    pairs = [
        (output, seed.to(output.dtype))
        for output, seed in (
            (features.image, gradients.image),
            (features.text, gradients.text),
            (features.logit_scale, gradients.logit_scale),
            (features.logit_bias, gradients.logit_bias),
        )
        if output is not None and seed is not None and output.requires_grad
    ]
    torch.autograd.backward([output for output, _ in pairs], [seed for _, seed in pairs])


def beside_stored(
    model: TwoTowers,
    image_features: Float[Tensor, "batch embed_dim"],
    tokens: Int[Tensor, "batch length"],
    lengths: Sequence[int],
) -> Features:
    """Return features of texts beside those that a locked tower has given of their pictures."""
    text_features = model.encode_text(tokens, lengths)
    return Features(image_features, text_features, model.logit_scale.exp(), model.logit_bias)


def pictures(run: Run, chunk: Batch) -> tuple[Tensor, Tensor | None]:
    """Return normalised pictures, and the patches of each that are read where some are left out."""
    config = run.config
    kept = None
    if config.train.patch_dropout and isinstance(config.model.vision, VisionTransformerConfig):
        patches = config.model.vision.patches
        kept = kept_patches(chunk.positions, patches, config.train.patch_dropout, config.seed)
    return run.preprocess.normalize(chunk.images), kept


def _read(run: Run, chunk: Batch) -> Features:
    lengths = chunk.lengths.tolist()
    with autocast(run.config.train.precision, run.world.device):
        if chunk.images.ndim == 2:
            return beside_stored(run.model, chunk.images, chunk.tokens, lengths)
        images, kept = pictures(run, chunk)
        return run.model.features(images, chunk.tokens, kept, lengths)
