"""One tensor on its way through one step of AdamW; see adamw.py for the formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.optim.rounding import DROPPED, Noise, round_
from bifocal.optim.statistics import State, Storage, in_storage_order

Group = Mapping[str, Any]

PART_OF_A_THREAD, PART_ON_AN_ACCELERATOR = 2**16, 2**24
"""Elements that pass through float32 at a time: buffers of 256 KiB, or of 64 MiB."""


@dataclass(frozen=True, slots=True)
class Update:
    """A parameter, its gradient in the same layout, its state, and the step to make."""

    name: str
    weight: Tensor
    grad: Tensor
    state: State
    storage: Storage
    step: int

    @classmethod
    def of(cls, name: str, parameter: Tensor, state: State, storage: Storage) -> Update:
        """Return the next step of a parameter; an empty state is filled.

        Raises:
            CheckpointError: the state is of another format than `storage`.
            ConfigError: the parameter is neither float32 nor a half-precision one.
        """
        if parameter.dtype not in (torch.float32, *DROPPED):
            raise ConfigError(
                f"{name} is {parameter.dtype}: expected torch.float32, torch.bfloat16 or "
                "torch.float16"
            )
        grad = parameter.grad
        assert grad is not None
        if not _same_layout(grad, parameter):
            grad = torch.empty_like(parameter).copy_(grad)
        if not state:
            state.update(storage.zeros(parameter))
        storage.check(state, name)
        return cls(name, parameter, grad, state, storage, int(state["step"].item()) + 1)

    @property
    def whole(self) -> bool:
        """Whether all is float32, so that nothing has to be read or rounded."""
        return self.weight.dtype == self.storage.dtype == torch.float32

    def peak(self) -> Float[Tensor, ""]:
        """Return max |g|."""
        low, high = torch.aminmax(self.grad)
        return torch.maximum(-low, high).float()

    def mean_square(self, beta2: float, eps: float) -> Float[Tensor, ""]:
        """Return the mean of g² / max(v̂, ε²), v̂ the average of squares that this step makes."""
        correction, scales = 1 - beta2**self.step, self.storage.scales(self.state)
        total = []
        for _, _, grad, *stored in self._parts():
            square = grad.float().square()
            second = self.storage.read(stored, scales)[1].lerp(square, 1 - beta2)
            total.append(square.div_(second.div_(correction).clamp_(min=eps**2)).sum())
        return torch.stack(total).sum() / self.weight.numel()

    def move(self, group: Group, lr: float, peak: float) -> None:
        """Pass the tensor through float32, part by part, and round what is shorter.

        Args:
            group: its settings; `lr` counts instead of the group's.
            lr: the rate.
            peak: max |g|, where the storage is scaled.
        """
        noise = Noise(self.name, self.step, self.weight.numel())
        device, dtype = self.weight.device, self.weight.dtype
        before = self.storage.scales(self.state)
        self.storage.rescale(self.state, peak, group["betas"])
        after = self.storage.scales(self.state)
        for begin, weight, grad, *stored in self._parts():
            bits = partial(noise.bits, begin=begin, end=begin + len(weight), device=device)
            moved, averages = weight.float(), self.storage.read(stored, before)
            fused([moved], [grad.float()], [averages], self.step, lr, group)
            self.storage.write(stored, averages, after, bits)
            if dtype != torch.float32:
                weight.copy_(round_(moved, dtype, bits(kind="weight", dtype=dtype)))

    def _parts(self) -> Iterator[tuple[Any, ...]]:
        """Yield (first element, weight, gradient, both averages), flat.

        A part is short enough for a CPU's caches, and long enough for an accelerator.
        """
        on_cpu = self.weight.device.type == "cpu"
        size = PART_OF_A_THREAD * torch.get_num_threads() if on_cpu else PART_ON_AN_ACCELERATOR
        averages = (self.state[kind] for kind in self.storage.kinds)
        flat = [in_storage_order(t).split(size) for t in (self.weight, self.grad, *averages)]
        return zip(range(0, self.weight.numel(), size), *flat, strict=True)


def fused(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    averages: Sequence[tuple[Tensor, Tensor]],
    step: int,
    lr: float,
    group: Group,
) -> None:
    """Move float32 tensors of one device in place by torch's kernel.

    Args:
        weights: what is moved.
        grads: of them, in the same layout.
        averages: (exp_avg, exp_avg_sq) of each.
        step: which it is, from 1.
        lr: counts instead of the group's.
        group: the other settings.
    """
    beta1, beta2 = group["betas"]
    steps = [torch.full((), float(step), device=weights[0].device)] * len(weights)
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
        list(weights),
        list(grads),
        [first for first, _ in averages],
        [second for _, second in averages],
        [],
        steps,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def rates(updates: Sequence[Update], group: Group) -> list[float]:
    """Return the rate of every tensor: the group's, clipped by `max_update_rms` if it is set."""
    lr, limit = group["lr"], group["max_update_rms"]
    if limit is None or not updates:
        return [lr] * len(updates)
    squares = [update.mean_square(group["betas"][1], group["eps"]) for update in updates]
    return [lr / max(1.0, math.sqrt(s) / limit) for s in torch.stack(squares).tolist()]


def peaks(updates: Sequence[Update]) -> list[float]:
    """Return max |g| of every tensor whose averages have a scale, and 0 of the others."""
    found = [update.peak() if update.storage.scaled else torch.zeros(()) for update in updates]
    return torch.stack(found).tolist() if found else []


def _same_layout(one: Tensor, other: Tensor) -> bool:
    pairs = zip(one.stride(), other.stride(), one.shape, strict=True)
    return all(a == b for a, b, size in pairs if size > 1)
