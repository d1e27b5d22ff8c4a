"""One tensor on its way through one step of AdamW; see adamw.py for the formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.optim.rounding import DROPPED, Noise, round_
from bifocal.optim.spread import first_row, local, over_processes
from bifocal.optim.statistics import State, Storage, in_storage_order

Group = Mapping[str, Any]

PART_OF_A_THREAD, PART_ON_AN_ACCELERATOR = 2**16, 2**24
"""Elements that pass through float32 at a time: buffers of 256 KiB, or of 64 MiB."""


@dataclass(frozen=True, slots=True)
class Update:
    """A parameter, its gradient in the same layout, its state, and the step to make.

    `weight`, `grad` and the state are those rows of `parameter` that this process holds.
    """

    name: str
    parameter: Tensor
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
        assert parameter.grad is not None
        weight, grad = local(parameter), local(parameter.grad)
        if not _same_layout(grad, weight):
            grad = torch.empty_like(weight).copy_(grad)
        if not state:
            state.update(storage.zeros(weight))
        storage.check(state, name)
        step = int(state["step"].item()) + 1
        return cls(name, parameter, weight, grad, state, storage, step)

    @property
    def whole(self) -> bool:
        """Whether all is float32, so that nothing has to be read or rounded."""
        return self.weight.dtype == self.storage.dtype == torch.float32

    def excess(self, beta2: float, eps: float) -> Float[Tensor, ""]:
        """Return this process's share of the mean over all elements of g² / max(v̂, ε²).

        v̂ is the corrected average of squares that this step makes.
        """
        correction, scales = 1 - beta2**self.step, self.storage.scales(self.state)
        total = [self.grad.new_zeros((), dtype=torch.float32)]
        for _, _, grad, *stored in self._parts():
            square = grad.float().square()
            second = self.storage.read(stored, scales)[1].lerp(square, 1 - beta2)
            total.append(square.div_(second.div_(correction).clamp_(min=eps**2)).sum())
        return torch.stack(total).sum() / self.parameter.numel()

    @property
    def first_element(self) -> int:
        """Which element of the whole parameter is the first that is here."""
        return first_row(self.parameter) * math.prod(self.parameter.shape[1:])

    def noise(self) -> Noise:
        """Return the random bits of this tensor at this step."""
        return Noise(self.name, self.step, self.parameter.numel())

    def move(self, group: Group, lr: float, peak: float) -> None:
        """Pass the tensor through float32, part by part, and round what is shorter.

        Args:
            group: its settings; `lr` counts instead of the group's.
            lr: the rate.
            peak: max |g|, where the storage is scaled.
        """
        noise, here = self.noise(), self.first_element
        device, dtype = self.weight.device, self.weight.dtype
        before, after = self.storage.rescale(self.state, peak, group["betas"])
        for begin, weight, grad, *stored in self._parts():
            first = here + begin
            bits = partial(noise.bits, begin=first, end=first + len(weight), device=device)
            moved, averages = weight.float(), self.storage.read(stored, before)
            fused([moved], [grad.float()], [averages], self.step, lr, group)
            self.storage.write(stored, averages, after, bits)
            if dtype != torch.float32:
                weight.copy_(round_(moved, dtype, bits(kind="weight", dtype=dtype)))

    def _parts(self) -> Iterator[tuple[Any, ...]]:
        """Yield (first element of those here, weight, gradient, both averages), flat.

        A part is short enough for a CPU's caches, and long enough for an accelerator.
        """
        if not self.weight.numel():
            return iter(())
        on_cpu = self.weight.device.type == "cpu"
        size = PART_OF_A_THREAD * torch.get_num_threads() if on_cpu else PART_ON_AN_ACCELERATOR
        averages = (self.state[kind] for kind in self.storage.kinds)
        flat = [in_storage_order(t).split(size) for t in (self.weight, self.grad, *averages)]
        return zip(range(0, self.weight.numel(), size), *flat, strict=True)


Move = tuple[Update, float, float]
"""An update, the rate that counts for it, and max |g| where its storage is scaled."""


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


class Finder:
    """Finds out what a step must know of tensors first; by torch, on any device."""

    def peaks(self, updates: Sequence[Update]) -> Float[Tensor, " tensors"]:
        """Return max |g| of every tensor, 0 where there are no rows."""
        grads = [update.grad for update in updates]
        if grads[0].device.type == "cpu":
            return torch.stack([_peak(grad) for grad in grads])
        found = [grads[0].new_zeros((), dtype=torch.float32)] * len(grads)
        for dtype in dict.fromkeys(grad.dtype for grad in grads):  # those alike are one call
            places = [n for n, g in enumerate(grads) if g.dtype == dtype and g.numel()]
            alike = [grads[n] for n in places]
            norms = torch._foreach_norm(alike, math.inf, dtype=torch.float32) if alike else ()  # pyright: ignore[reportPrivateImportUsage]
            for place, norm in zip(places, norms, strict=True):
                found[place] = norm
        return torch.stack(found)

    def excesses(self, updates: Sequence[Update], group: Group) -> Float[Tensor, " tensors"]:
        """Return `Update.excess` of every tensor."""
        beta2, eps = group["betas"][1], group["eps"]
        return torch.stack([update.excess(beta2, eps) for update in updates])


def rates(updates: Sequence[Update], group: Group, finder: Finder) -> list[float]:
    """Return the rate of every tensor: the group's, clipped by `max_update_rms` if it is set."""
    lr, limit = group["lr"], group["max_update_rms"]
    if limit is None or not updates:
        return [lr] * len(updates)
    found = finder.excesses(updates, group)
    squares = over_processes(found, [update.parameter for update in updates], dist.ReduceOp.SUM)
    return [lr / max(1.0, math.sqrt(square) / limit) for square in squares.tolist()]


def find_peaks(
    updates: Sequence[Update], known: Mapping[Tensor, float], finder: Finder
) -> list[float]:
    """Return max |g| of every tensor, found if not known; zeros where no averages have a scale."""
    if not any(update.storage.scaled for update in updates):
        return [0.0] * len(updates)
    parameters = [update.parameter for update in updates]
    if all(parameter in known for parameter in parameters):
        return [known[parameter] for parameter in parameters]
    return over_processes(finder.peaks(updates), parameters, dist.ReduceOp.MAX).tolist()


def _peak(grad: Tensor) -> Float[Tensor, ""]:
    if not grad.numel():
        return grad.new_zeros((), dtype=torch.float32)
    low, high = torch.aminmax(grad)
    return torch.maximum(-low, high).float()


def _same_layout(one: Tensor, other: Tensor) -> bool:
    pairs = zip(one.stride(), other.stride(), one.shape, strict=True)
    return all(a == b for a, b, size in pairs if size > 1)
