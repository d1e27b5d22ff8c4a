"""The head of a zero-shot classifier: one unit vector a class.

Paper section 3.1: a linear classifier whose weights the text tower wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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


def class_means(
    features: Float[Tensor, "prompts embed_dim"], counts: Sequence[int]
) -> Float[Tensor, "classes embed_dim"]:
    """Return the ensemble: the mean of the unit features of each class, normalised again.

    Args:
        features: of all prompts, class by class.
        counts: prompts of each class.
    """
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    sums = torch.zeros(len(counts), features.shape[1]).index_add(0, owner, features)
    # The length of a sum does not matter: it is normalised.
    return F.normalize(sums, dim=-1)
