"""The symmetric contrastive loss, plainly: the whole similarity matrix and autograd.

Paper figure 3 (InfoNCE, van den Oord et al. 2018, in both directions). This is the oracle for the
tiled form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from bifocal.loss.objective import plain_value_and_grad
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World


class SoftmaxLoss:
    """Mean of the cross-entropies over rows (texts of a picture) and columns (its converse).

    loss = ½ [CE(s·x yᵀ, diagonal) + CE(s·y xᵀ, diagonal)], in float32 or better.

    Where pairs share a picture or a caption, the target of a row is uniform over all that belong
    to it (Khosla et al. 2020, "Supervised contrastive learning", the form outside the logarithm);
    when all are unique that is the diagonal.
    """

    def value(self, features: Features, sharing: Sharing | None = None) -> Float[Tensor, ""]:
        """Return the loss of pairs that are all in `features`, differentiable."""
        logits = features.logit_scale * features.image @ features.text.T
        if features.logit_bias is not None:
            logits = logits + features.logit_bias
        if sharing is None:
            targets = torch.arange(len(logits), device=logits.device)
        else:
            match = positives(len(logits), sharing, logits.device).to(logits.dtype)
            targets = match / match.sum(dim=1, keepdim=True)  # symmetric: rows are columns
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss and this process's share of its gradients."""
        return plain_value_and_grad(self.value, features, world, sharing)


def positives(
    pairs: int, sharing: Sharing | None, device: torch.device
) -> Bool[Tensor, "batch batch"]:
    """Return which text belongs to which picture."""
    if sharing is None:
        return torch.eye(pairs, dtype=torch.bool, device=device)
    same_image = sharing.image[:, None] == sharing.image
    return same_image | (sharing.text[:, None] == sharing.text)
