"""What every contrastive loss promises, and how a plain one keeps it in a world of many.

Knows features, gradients and ranks; knows no particular loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World


@runtime_checkable
class ContrastiveLoss(Protocol):
    """Maps features to a loss and to the gradients of the features.

    Working on features, and not on parameters, is what lets losses compose with chunks and ranks.
    """

    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[Float[Tensor, ""], Features]:
        """Return the loss over the pairs of all processes, and gradients in fields of `Features`.

        Args:
            features: of this process's pairs; every process has as many.
            world: the processes; the call is collective.
            sharing: of this process's pairs, where a picture or a caption may have several
                partners.

        Returns:
            the loss, the same on every process; gradients of this process's features, and its
            share of those of `logit_scale` and `logit_bias`: summed over the processes they are
            the whole. They are in float32, or in float64 where features are.
        """
        ...


def in_full(features: Features) -> Features:
    """Return detached features in the precision in which losses are computed, float32 or better."""
    dtype = torch.promote_types(features.image.dtype, torch.float32)
    bias = features.logit_bias
    return Features(
        image=features.image.detach().to(dtype),
        text=features.text.detach().to(dtype),
        logit_scale=features.logit_scale.detach().to(dtype),
        logit_bias=None if bias is None else bias.detach().to(dtype),
    )


def gather_sharing(sharing: Sharing | None, world: World) -> Sharing | None:
    """Return the numbers of the pairs of all processes."""
    if sharing is None:
        return None
    return Sharing(world.gather(sharing.image), world.gather(sharing.text))


def plain_value_and_grad(
    value: Callable[[Features, Sharing | None], Float[Tensor, ""]],
    features: Features,
    world: World,
    sharing: Sharing | None,
) -> tuple[Float[Tensor, ""], Features]:
    """Return what a loss promises by computing all of it in every process, through autograd."""
    own = in_full(features)
    leaves = [world.gather(own.image), world.gather(own.text), own.logit_scale]
    if own.logit_bias is not None:
        leaves.append(own.logit_bias)
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    with torch.enable_grad(), torch.autocast(own.image.device.type, enabled=False):
        loss = value(Features(*leaves), gather_sharing(sharing, world))
        # A bias that is the same for all logits does not move a softmax.
        image, text, *scalars = torch.autograd.grad(loss, leaves, materialize_grads=True)
    mine = slice(world.rank * len(own.image), (world.rank + 1) * len(own.image))
    return loss.detach(), Features(image[mine], text[mine], *(s / world.size for s in scalars))
