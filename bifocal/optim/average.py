"""An exponential moving average of a model's parameters, to evaluate with.

After n updates with parameters θ₁ … θₙ the average is the weighted mean Σ wᵢ θᵢ / Σ wᵢ with
wᵢ = decay^(n − i): as Adam's corrected averages, it owes nothing to the weights that it began with.
In place of a stored sum that is one interpolation whose rate falls from 1 to 1 − decay:

    average ← average + (θₙ − average) (1 − decay) / (1 − decayⁿ)

Averages are float32 whatever the parameters are. Buffers (BatchNorm's running statistics) are
averages already and are copied. Knows modules; knows nothing of what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bifocal.errors import CheckpointError, ConfigError
from bifocal.optim.spread import local, own_rows, whole

PREFIX = "average/"


class Average:
    """The averages of a model's parameters and a copy of its buffers, by name.

    Args:
        model: whose parameters are averaged; what it holds now counts for nothing after an update.
        decay: share that the average keeps at an update, once there have been many.

    Raises:
        ConfigError: the decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"decay {decay} of the average: expected at least 0 and below 1")
        self.decay = decay
        self._like = model.state_dict()  # the model's own tensors: how their rows are spread
        self._tensors = {
            name: local(tensor).to(_kept(tensor), copy=True) for name, tensor in self._like.items()
        }
        self._averaged = tuple(name for name, _ in model.named_parameters())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the model's present parameters into the average.

        Args:
            model: the one that it was made for.
            step: number of this update, from 1; it decides how much the present counts.
        """
        assert step >= 1, step
        rate = (1 - self.decay) / (1 - self.decay**step)
        present = {name: local(tensor) for name, tensor in model.state_dict().items()}
        averages = [self._tensors[name] for name in self._averaged]
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            averages, [present[name].float() for name in self._averaged], rate
        )
        for name in present.keys() - set(self._averaged):
            self._tensors[name].copy_(present[name])

    def weights(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return the whole averages, and the buffers, by name; where it can, not copied.

        A collective call where the model is spread over processes; those that do not `keep` the
        result take part and get nothing.
        """
        found = {}
        for name, tensor in self._tensors.items():
            put_together = whole(tensor, self._like[name])
            if keep:
                found[name] = put_together
        return found

    def tensors(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return "average/NAME" -> `weights`, for a checkpoint."""
        return {PREFIX + name: tensor.cpu() for name, tensor in self.weights(keep=keep).items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; keys without "average/" are passed over.

        Raises:
            CheckpointError: a tensor is missing, unknown, or of another shape.
        """
        found = {k.removeprefix(PREFIX): t for k, t in tensors.items() if k.startswith(PREFIX)}
        odd = found.keys() ^ self._tensors.keys()
        odd |= {n for n in found.keys() - odd if found[n].shape != self._like[n].shape}
        if odd:
            raise CheckpointError(
                f"the averages of {', '.join(sorted(odd)[:4])} are missing, unknown or of another "
                "shape: resume with the model that the run began with, or without an average"
            )
        for name, tensor in self._tensors.items():
            tensor.copy_(own_rows(found[name], self._like[name]))


def _kept(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype
