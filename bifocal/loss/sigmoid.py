"""The pairwise sigmoid loss, plainly (Zhai et al. 2023, "SigLIP", arXiv 2303.15343).

Every picture and text are asked by themselves whether they belong together, so that no
normalisation over the batch is needed. This is the oracle for the tiled form.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.loss.objective import plain_value_and_grad
from bifocal.loss.softmax import positives
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World


class SigmoidLoss:
    """Sum over all pictures i and texts j of -log σ(zᵢⱼ (s·xᵢ·yⱼ + b)), over the number of pairs.

    z is 1 where text j belongs to picture i and -1 elsewhere.
    """

    def value(self, features: Features, sharing: Sharing | None = None) -> Float[Tensor, ""]:
        """Return the loss of pairs that are all in `features`, differentiable.

        Raises:
            ConfigError: the model has no bias.
        """
        logits = features.logit_scale * features.image @ features.text.T + bias_of(features)
        match = positives(len(logits), sharing, logits.device)
        return -F.logsigmoid(logits.where(match, -logits)).sum() / len(logits)

    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss and this process's share of its gradients."""
        return plain_value_and_grad(self.value, features, world, sharing)


def bias_of(features: Features) -> Float[Tensor, ""]:
    """Return the bias of the logits.

    Raises:
        ConfigError: the model has none.
    """
    if features.logit_bias is None:
        raise ConfigError(
            "the sigmoid loss needs a bias of the logits, and this model has none: set "
            "model.init_logit_bias=-10 (and model.init_temperature=0.1, as SigLIP starts)"
        )
    return features.logit_bias
