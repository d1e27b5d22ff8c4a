"""The head of a zero-shot classifier: one unit vector a class.

Paper section 3.1: a linear classifier whose weights the text tower wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ZeroShotHead:
    """Classes as directions in the shared space.

    Attributes:
        weights: unit vectors.
        logit_scale: multiplies the cosine similarities.
    """

    weights: Float[Tensor, "classes embed_dim"]
    logit_scale: Float[Tensor, ""]

    @classmethod
    def from_prompts(
        cls,
        features: Float[Tensor, "classes templates embed_dim"],
        logit_scale: Float[Tensor, ""],
    ) -> ZeroShotHead:
        """Return the ensemble: unit features averaged a class, and normalised again."""
        weights = F.normalize(features.mean(dim=1), dim=-1)
        return cls(weights, logit_scale.detach().float().cpu())

    def logits(
        self, image_features: Float[Tensor, "images embed_dim"]
    ) -> Float[Tensor, "images classes"]:
        """Return scaled cosine similarities for unit image features."""
        return self.logit_scale * image_features @ self.weights.T

    def probabilities(
        self, image_features: Float[Tensor, "images embed_dim"]
    ) -> Float[Tensor, "images classes"]:
        """Return the softmax of the logits over classes."""
        return self.logits(image_features).softmax(dim=-1)
