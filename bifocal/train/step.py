"""One training step, readable from top to bottom.

Paper figure 3 and section 2.5. A contrastive loss maps features to gradients of features; the
towers are differentiated from there, chunk by chunk. A predictive one needs no such detour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bifocal.data.batch import Batch
from bifocal.loss.predictive import Loss, PredictiveLoss
from bifocal.optim.gradients import gradients_of
from bifocal.optim.spread import is_spread
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.chunks import backward_chunks, embed_chunks
from bifocal.train.predictive import predict_chunks
from bifocal.train.state import Run
from bifocal.world import World

BUCKET = 1 << 24
"""Elements of gradients that travel between processes at a time."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step reports: but for `tokens` and `keys`, the same in every process."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    logit_scale: float
    pairs: int
    """Of the whole batch."""
    tokens: int
    """Ids of this process's captions, each up to its end-of-text."""
    keys: tuple[str, ...]
    """Of this process's pairs."""
    applied: bool
    """False if the loss or a gradient was not finite, and the model stayed as it was."""


def train_step(run: Run, batch: Batch, loss_fn: Loss) -> StepMetrics:
    """Move the weights by one batch and return what happened.

    If the loss or a gradient is not finite, weights, optimizer and running statistics stay as they
    are, gradients are left for the asker to look at, and the run goes on behind the batch.
    """
    model, world, config = run.model, run.world, run.config
    model.zero_grad(set_to_none=True)
    sharing = batch.sharing(world.device) if config.loss.sharing else None
    batch = batch.to(world.device)
    chunks = batch.split(config.train.chunk_size or len(batch.images))
    statistics = RunningStatistics(model)
    if isinstance(loss_fn, PredictiveLoss):
        loss = predict_chunks(run, chunks, statistics, loss_fn)
    else:
        features = embed_chunks(run, chunks, statistics)
        loss, seeds = loss_fn.value_and_grad(features, world, sharing)
        backward_chunks(run, chunks, features, seeds)
    sum_gradients(model, world)
    if run.scaler:
        run.scaler.unscale_(model.parameters())
    gradients = run.optimizer.clip_gradients(config.optim.max_grad_norm)
    # Numbers are asked for before the step: after it they would have to wait for its end.
    lr, logit_scale, value = run.schedule(run.step), model.logit_scale.exp().item(), loss.item()
    applied = math.isfinite(value) and math.isfinite(gradients.norm)
    statistics.finish(world, keep=applied)
    if applied:
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        run.optimizer.step(peaks=gradients.peaks)
        if config.loss.learn_temperature:
            model.clamp_logit_scale(config.loss.max_logit_scale)
        run.updates += 1
        if run.average:
            run.average.update(model, run.updates)
    count_step(run, loss=value, applied=applied)
    run.cursor = batch.cursor
    return StepMetrics(
        step=run.step,
        loss=value,
        grad_norm=gradients.norm,
        lr=lr,
        logit_scale=logit_scale,
        pairs=len(batch.images) * world.size,
        tokens=int(batch.lengths.sum()),
        keys=batch.keys,
        applied=applied,
    )


def count_step(run: Run, *, loss: float, applied: bool) -> None:
    """Move the counters of the run behind a step; an overflow that the scaler mends is no fault."""
    run.step += 1
    scaler = run.scaler if math.isfinite(loss) else None
    if applied:
        run.rejected = 0
    elif not (scaler and scaler.can_shrink):
        run.rejected += 1
    if scaler:
        scaler.update(applied)


def sum_gradients(model: nn.Module, world: World) -> None:
    """Sum the gradients over the processes, in an order that depends on the model alone.

    They are added in float32 at least, and rounded once. Those that are spread are summed already,
    where the backward pass made them.
    """
    if world.size == 1:
        return
    bucket: list[torch.Tensor] = []
    for gradient in gradients_of(p for p in model.parameters() if not is_spread(p)):
        bucket.append(gradient)
        if sum(g.numel() for g in bucket) >= BUCKET:
            _sum_together(bucket, world)
            bucket = []
    if bucket:
        _sum_together(bucket, world)


def _sum_together(gradients: list[torch.Tensor], world: World) -> None:
    wide = (g.flatten().to(torch.promote_types(g.dtype, torch.float32)) for g in gradients)
    flat = world.sum_(torch.cat(list(wide)))
    parts = flat.split([gradient.numel() for gradient in gradients])
    summed = [part.view_as(gradient) for gradient, part in zip(gradients, parts, strict=True)]
    torch._foreach_copy_(gradients, summed)  # pyright: ignore[reportPrivateImportUsage]
