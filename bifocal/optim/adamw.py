"""AdamW whose averages, and whose parameters, may be kept in 16 bits.

Adam with decoupled weight decay (Loshchilov & Hutter 2019; paper section 2.5):

    m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
    θ ← θ − lr λ θ − lr (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

One kernel, torch's fused one, does this arithmetic in float32 for every format. Where all is
float32 it works on the tensors themselves, and the result is that of
`torch.optim.AdamW(fused=True)` bit for bit. Else a matrix passes through it in parts that fit into
a processor's caches: read to float32, moved, stochastically rounded on the way back (see
statistics.py and rounding.py); or, compiled, through one of our own in a single pass (kernel.py).

Vectors (gains, biases) and scalars always keep float32 averages: they are a thousandth of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from bifocal.errors import ConfigError, did_you_mean
from bifocal.optim.gradients import Measured, clip_gradients
from bifocal.optim.kernel import Kernel
from bifocal.optim.rounding import DROPPED
from bifocal.optim.statistics import ON_THE_CPU, STORAGES, Statistics
from bifocal.optim.update import Finder, Move, Update, find_peaks, fused, rates

NOTHING: Mapping[Tensor, float] = MappingProxyType({})


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay; `lr` of a group may be set before every step.

    Args:
        params: groups of parameters with "param_names", or pairs of (name, parameter). A name is
            what rounding noise is drawn by, so it must be the same in every run and process.
        lr: learning rate.
        betas: decay of the averages of the gradient and of its square.
        eps: added to the root.
        weight_decay: share of a parameter that a step takes away, times lr.
        statistics: how the averages of matrices are stored. Any group may have its own.
        max_update_rms: divides the rate of a tensor by max(1, RMS / max_update_rms), where RMS² is
            the mean over its elements of g² / max(v̂, ε²), v̂ = v / (1 − β₂ᵗ): a tensor whose
            averages lag behind its gradient moves less (StableAdamW, Wortsman et al. 2023, "Stable
            and low-precision training for large-scale vision-language models", which sets 1).

    Raises:
        ConfigError: parameters without names, or a setting out of range.
    """

    _kernel: Kernel | None = None  # of the class, as copies of an optimizer have no attributes

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        statistics: Statistics = "float32",
        max_update_rms: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "statistics": statistics,
            "max_update_rms": max_update_rms,
        }
        super().__init__(params, defaults)  # pyright: ignore[reportArgumentType]
        for group in self.param_groups:
            _check(group)
        names = [name for group in self.param_groups for name in group.get("param_names", ())]
        if len(set(names)) != sum(len(group["params"]) for group in self.param_groups):
            raise ConfigError(
                "parameters without names, or two of one name: give (name, parameter) pairs, as "
                "model.named_parameters() does; rounding noise is drawn by name"
            )

    def compile(self) -> None:
        """From now on, move what is kept in 16 bits on a CPU by a kernel compiled here (kernel.py).

        The same kernel measures gradients, and updates that are to be clipped. Nothing is compiled
        where nothing is kept or clipped so. A copy of the optimizer moves by parts.

        Raises:
            ConfigError: there is no C compiler, or it fails.
        """
        used = any(
            parameter.device.type == "cpu"
            and (
                parameter.dtype in DROPPED
                or group["statistics"] != "float32"
                or group["max_update_rms"] is not None
            )
            for group in self.param_groups
            for parameter in group["params"]
        )
        self._kernel = Kernel() if used else None

    def clip_gradients(self, limit: float | None = None) -> Measured:
        """Measure all gradients, and scale them down to a norm of `limit` where it is beyond it."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        return clip_gradients(parameters, limit, self._kernel)

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: None = None, *, peaks: Mapping[Tensor, float] = NOTHING
    ) -> None:
        """Move every parameter that has a gradient; an infinite or NaN gradient spoils its tensor.

        Args:
            closure: none.
            peaks: max |g| by parameter, where `clip_gradients` found it; else it is found here.

        Raises:
            CheckpointError: the state was restored from a run with other `statistics`.
        """
        assert closure is None
        for group in self.param_groups:
            updates = list(self._updates(group))
            kernel = self._kernel
            finder = kernel if kernel and all(map(kernel.takes, updates)) else Finder()
            largest = find_peaks(updates, peaks, finder)
            together: dict[Any, list[Update]] = {}
            taken: list[Move] = []
            for move in zip(updates, rates(updates, group, finder), largest, strict=True):
                update, lr, peak = move
                if update.whole:
                    key = (lr, update.step, update.weight.device)
                    together.setdefault(key, []).append(update)
                elif kernel and kernel.takes(update):
                    taken.append(move)
                else:
                    update.move(group, lr, peak)
            if kernel:
                kernel.move(taken, group)
            for (lr, step, _), alike in together.items():
                averages = [(u.state["exp_avg"], u.state["exp_avg_sq"]) for u in alike]
                fused([u.weight for u in alike], [u.grad for u in alike], averages, step, lr, group)
            for update in updates:
                update.state["step"].fill_(update.step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, every tensor in its own dtype."""
        super().load_state_dict(state_dict)
        # torch casts the state to the parameter's dtype, which would undo the storage format.
        places = [place for group in state_dict["param_groups"] for place in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for place, parameter in zip(places, parameters, strict=True):
            for kind, tensor in state_dict["state"].get(place, {}).items():
                device = tensor.device if kind in ON_THE_CPU else parameter.device
                self.state[parameter][kind] = tensor.to(device, copy=True)

    def _updates(self, group: dict[str, Any]) -> Iterator[Update]:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if parameter.grad is not None:
                statistics: Statistics = group["statistics"] if parameter.ndim >= 2 else "float32"
                yield Update.of(name, parameter, self.state[parameter], STORAGES[statistics])


def _check(group: dict[str, Any]) -> None:
    statistics, limit = group["statistics"], group["max_update_rms"]
    if statistics not in STORAGES:
        raise ConfigError(
            f"statistics in '{statistics}'{did_you_mean(statistics, STORAGES)}: expected one of "
            f"{', '.join(STORAGES)}"
        )
    if limit is not None and not limit > 0:
        raise ConfigError(f"max_update_rms {limit}: expected a number above 0, or none")
