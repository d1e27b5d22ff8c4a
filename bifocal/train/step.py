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
from bifocal.optim.spread import is_spread, local
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.chunks import backward_chunks, embed_chunks
from bifocal.train.predictive import predict_chunks
from bifocal.train.state import Run
from bifocal.world import World

BUCKET = 1 << 24
"""Elements of gradients that travel between processes at a time."""


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step reports: but for `keys`, the same in every process."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    logit_scale: float
    pairs: int
    """Of the whole batch."""
    tokens: int
    """Ids that the text tower read for them, padding to the longest caption included."""
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
    batch = batch.to(world.device)
    chunks = batch.split(config.train.chunk_size or len(batch.images))
    statistics = RunningStatistics(model)
    if isinstance(loss_fn, PredictiveLoss):
        loss = predict_chunks(run, chunks, statistics, loss_fn)
    else:
        features = embed_chunks(run, chunks, statistics)
        sharing = batch.sharing() if config.loss.sharing else None
        loss, gradients = loss_fn.value_and_grad(features, world, sharing)
        backward_chunks(run, chunks, features, gradients)
    sum_gradients(model, world)
    if run.scaler:
        run.scaler.unscale_(model.parameters())
    grad_norm = clip_gradients(model, config.optim.max_grad_norm, world)
    lr, logit_scale = run.schedule(run.step), model.logit_scale.exp().item()
    applied = math.isfinite(loss.item()) and math.isfinite(grad_norm)
    statistics.finish(world, keep=applied)
    if applied:
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        run.optimizer.step()
        if config.loss.learn_temperature:
            model.clamp_logit_scale(config.loss.max_logit_scale)
        run.updates += 1
        if run.average:
            run.average.update(model, run.updates)
    count_step(run, loss=loss.item(), applied=applied)
    run.cursor = batch.cursor
    return StepMetrics(
        step=run.step,
        loss=loss.item(),
        grad_norm=grad_norm,
        lr=lr,
        logit_scale=logit_scale,
        pairs=len(batch.images) * world.size,
        tokens=batch.tokens.numel() * world.size,
        keys=batch.keys,
        applied=applied,
    )


def count_step(run: Run, *, loss: float, applied: bool) -> None:
    """Move the counters of the run behind a step.

    Raises:
        TrainingError: gradients are not finite however little float16 is asked to hold.
    """
    run.step += 1
    overflow = run.scaler is not None and math.isfinite(loss)  # for the scaler to mend
    if applied:
        run.rejected = 0
    elif not overflow:
        run.rejected += 1
    if run.scaler and (applied or overflow):
        run.scaler.update(applied)


def sum_gradients(model: nn.Module, world: World) -> None:
    """Sum the gradients over the processes, in an order that depends on the model alone.

    Those that are spread are summed already, where the backward pass made them.
    """
    if world.size == 1:
        return
    bucket: list[torch.Tensor] = []
    for gradient in gradients_of(model, spread=False):
        bucket.append(gradient)
        if sum(g.numel() for g in bucket) >= BUCKET:
            _sum_together(bucket, world)
            bucket = []
    if bucket:
        _sum_together(bucket, world)


def clip_gradients(model: nn.Module, limit: float | None, world: World) -> float:
    """Return the norm of all gradients; where it exceeds `limit` they are scaled down to it."""
    everywhere, here = gradients_of(model, spread=False), gradients_of(model, spread=True)
    norm = torch.nn.utils.get_total_norm(everywhere)
    if here:
        there = world.sum_(torch.nn.utils.get_total_norm(here).square()).sqrt()
        # Not hypot, for which infinity and NaN are infinity.
        norm = torch.linalg.vector_norm(torch.stack([norm, there]))
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_([*everywhere, *here], factor)  # pyright: ignore[reportPrivateImportUsage]
    return norm.item()


def gradients_of(model: nn.Module, *, spread: bool) -> list[torch.Tensor]:
    """Return the gradients whose rows are spread over the processes, those that are here; or the
    others."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [local(gradient) for gradient in gradients if is_spread(gradient) == spread]


def _sum_together(gradients: list[torch.Tensor], world: World) -> None:
    flat = world.sum_(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
