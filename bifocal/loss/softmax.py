"""The symmetric contrastive loss, plainly: the whole similarity matrix and autograd.

Paper figure 3 (InfoNCE, van den Oord et al. 2018, in both directions). This is the oracle for
every faster form.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bifocal.types import Features


@runtime_checkable
class ContrastiveLoss(Protocol):
    """Maps features to a loss and to the gradients of the features.

    Working on features, and not on parameters, is what lets losses compose with chunks and ranks.
    """

    def value_and_grad(self, features: Features) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss, and its gradients in the fields of `Features`."""
        ...


class SoftmaxLoss:
    """Mean of the cross-entropies over rows (texts of a picture) and columns (its converse).

    loss = ½ [CE(s·x yᵀ, diagonal) + CE(s·y xᵀ, diagonal)], float32 whatever the features are.
    """

    def value(self, features: Features) -> Float[Tensor, ""]:
        """Return the loss, differentiable."""
        image, text = features.image.float(), features.text.float()
        logits = features.logit_scale.float() * image @ text.T
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    def value_and_grad(self, features: Features) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss and the gradients of image, text and logit_scale."""
        leaves = [
            leaf.detach().float().requires_grad_()
            for leaf in (features.image, features.text, features.logit_scale)
        ]
        with torch.autocast(features.image.device.type, enabled=False):
            loss = self.value(Features(*leaves))
            gradients = torch.autograd.grad(loss, leaves)
        return loss.detach(), Features(*gradients)
