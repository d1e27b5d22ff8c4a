"""A step of a predictive loss: pairs do not know each other, so that chunks simply add up.

Nothing is cached and nothing read twice: each chunk is read, its pairs' costs are differentiated,
and its gradients are added to those of the chunks before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.data.batch import Batch
from bifocal.loss.predictive import PredictiveLoss
from bifocal.precision import autocast
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.chunks import pictures
from bifocal.train.state import Run


def predict_chunks(
    run: Run, chunks: Sequence[Batch], statistics: RunningStatistics, loss_fn: PredictiveLoss
) -> Float[Tensor, ""]:
    """Leave this process's share of the gradients at the parameters; return the whole batch's loss.

    Args:
        run: whose model is differentiated.
        chunks: of this process's pairs; every process has as many pairs.
        statistics: of the model's BatchNorm layers in this step.
        loss_fn: says what each pair costs.
    """
    pairs = run.world.size * sum(len(chunk.images) for chunk in chunks)
    total = torch.zeros((), device=run.world.device)
    for number, chunk in enumerate(chunks):
        statistics.chunk(number)
        images, kept = pictures(run, chunk)
        with autocast(run.config.train.precision, run.world.device):
            image = run.model.read_image(images, kept)
            loss = loss_fn.costs(run.model, image, chunk.tokens).sum() / pairs
        statistics.replay()  # blocks may be read again for their gradients
        (loss * run.scaler.scale if run.scaler else loss).backward()
        total = total + loss.detach()
    return run.world.sum_(total)
