"""One training step, readable from top to bottom.

Paper figure 3 and section 2.5. The loss maps features to gradients of features; the towers are
then differentiated once from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bifocal.data.loader import Batch
from bifocal.errors import TrainingError
from bifocal.loss.softmax import ContrastiveLoss
from bifocal.precision import autocast
from bifocal.train.state import Run
from bifocal.types import Features


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one step reports."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    logit_scale: float
    pairs: int
    tokens: int
    """Ids that the text tower read, padding to the longest caption included."""


def train_step(run: Run, batch: Batch, loss_fn: ContrastiveLoss) -> StepMetrics:
    """Move the weights by one batch and return what happened.

    Raises:
        TrainingError: the loss or the gradient is not finite; the weights are as before.
    """
    model, device = run.model, run.world.device
    batch = batch.to(device)
    lr = run.schedule(run.step)
    with autocast(run.config.train.precision, device):
        features = model.features(run.preprocess.normalize(batch.images), batch.tokens)
    loss, gradients = loss_fn.value_and_grad(features)
    backward(features, gradients)
    limit = run.config.optim.max_grad_norm
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or float("inf"))
    if not (torch.isfinite(loss) and torch.isfinite(grad_norm)):
        raise TrainingError(
            f"step {run.step}: loss {loss.item():.4g}, gradient norm {grad_norm.item():.4g}; the "
            "weights are as before this step. Lower optim.lr, lengthen optim.warmup_steps or set "
            f"optim.max_grad_norm. First pairs of the batch: {', '.join(batch.keys[:4])}"
        )
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    model.clamp_logit_scale()
    run.step += 1
    run.cursor = batch.cursor
    return StepMetrics(
        step=run.step,
        loss=loss.item(),
        grad_norm=grad_norm.item(),
        lr=lr,
        logit_scale=features.logit_scale.item(),
        pairs=len(batch.images),
        tokens=batch.tokens.numel(),
    )


def backward(features: Features, gradients: Features) -> None:
    """Carry the gradients of features on to the parameters of both towers."""
    outputs = (features.image, features.text, features.logit_scale)
    seeds = (gradients.image, gradients.text, gradients.logit_scale)
    torch.autograd.backward(outputs, [g.to(f.dtype) for f, g in zip(outputs, seeds, strict=True)])
