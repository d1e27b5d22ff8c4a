"""`Update.move` on a CPU in one pass over memory, and what is to be known of gradients in another.

Torch's fused kernel knows no averages that are shorter than weights, and rounds to nearest; what
passes through it in parts is read, moved and rounded in a dozen passes. In one pass a step in 16
bits moves fewer bytes than torch's in float32. It ends in the same bits where torch's kernel works
by vectors that multiply and add at once (AVX2, AVX-512). Before they are rounded numbers may differ
by a last bit on other processors, in the last elements of a tensor, which fill no vector, and in
float16 averages, whose roots are MKL's for torch and here the nearest numbers.

Knows how to describe tensors, and to share the work among threads. The arithmetic is in kernel.c;
its plain twins are `Update.move` and `Finder`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bifocal.optim.library import DESCRIPTIONS, compiled
from bifocal.optim.rounding import DROPPED, Noise, deck, factors
from bifocal.optim.update import Finder, Group, Move, Update

FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
LEAST = 2**14
"""Elements that are worth a thread."""
Described = dict[str, Any]
"""What a record of library.py holds, by its fields."""


class Kernel(Finder):
    """Moves tensors of which something is kept in 16 bits, on a CPU, and measures gradients.

    As many threads work as torch computes with.

    Raises:
        ConfigError: there is no C compiler, or it fails.
    """

    def __init__(self) -> None:
        self._library = compiled()
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._deck = deck(16, torch.device("cpu")).numpy().astype(np.uint16)
        self._deck_at = _address(self._deck)

    @staticmethod
    def takes(update: Update) -> bool:
        """Return whether a tensor is moved here: on a CPU, its gradient in the same format."""
        return update.weight.device.type == "cpu" and update.grad.dtype == update.weight.dtype

    @staticmethod
    def measures(gradient: Tensor) -> bool:
        """Return whether a gradient is measured here."""
        return gradient.device.type == "cpu" and gradient.dtype in FORMATS

    def move(self, moves: Sequence[Move], group: Group) -> None:
        """Do what `Update.move` does, of every tensor.

        Args:
            moves: of tensors that it takes.
            group: their settings, but for the rate.
        """
        noises = [update.noise() for update, _, _ in moves]  # what they draw outlives the call
        steps = [self._step(group, noise, *one) for noise, one in zip(noises, moves, strict=True)]
        self._run("move", steps, sum(step["count"] for step in steps))

    def measure(
        self, gradients: Sequence[Tensor]
    ) -> tuple[Float[Tensor, " tensors"], Float[Tensor, " tensors"]]:
        """Return Σ g² and max |g| of every gradient, in float64; an element that is NaN shows."""
        dense = [_dense(gradient) for gradient in gradients]  # a copy outlives the call
        described = [_gradient(one) for one in dense]
        elements = sum(one["count"] for one in described)
        found = self._run("measure", described, elements, results=2)
        return found[..., 0].sum(0), found[..., 1].amax(0)

    def peaks(self, updates: Sequence[Update]) -> Float[Tensor, " tensors"]:
        """Do what `Finder.peaks` does; it takes all of them."""
        return self.measure([update.grad for update in updates])[1].float()

    def excesses(self, updates: Sequence[Update], group: Group) -> Float[Tensor, " tensors"]:
        """Do what `Finder.excesses` does; it takes all of them."""
        lags = [_lag(update, group) for update in updates]
        elements = sum(update.grad.numel() for update in updates)
        found = self._run("excesses", lags, elements, results=1)
        sizes = torch.tensor([update.parameter.numel() for update in updates])
        return (found[..., 0].sum(0) / sizes).float()

    def _step(
        self, group: Group, noise: Noise, update: Update, lr: float, peak: float
    ) -> Described:
        kinds, (beta1, beta2) = update.storage.kinds, group["betas"]
        before, after = update.storage.rescale(update.state, peak, group["betas"])
        first, second = (
            _stored(update.state[kind], noise, kind, *scales)
            for kind, *scales in zip(kinds, before, after, strict=True)
        )
        return {
            "weight": _stored(update.weight, noise, "weight"),
            "first": first,
            "second": second,
            "grad": update.grad.data_ptr(),
            "deck": self._deck_at,
            "here": update.first_element,
            "count": update.weight.numel(),
            "keep": 1 - lr * group["weight_decay"],
            "rise_first": 1 - beta1,
            "decay_second": beta2,
            "rise_second": 1 - beta2,
            "rate": -lr / (1 - beta1**update.step),
            "root": math.sqrt(1 - beta2**update.step),
            "eps": group["eps"],
        }

    def _run(
        self, function: str, described: Sequence[Described], elements: int, results: int = 0
    ) -> Float[Tensor, "threads tensors results"]:
        """Call a function of kernel.c for all parts of what is described, and return its results.

        Zeros are the results of threads for which there was no work.
        """
        records = np.empty(len(described), DESCRIPTIONS[function])
        for field in records.dtype.names or ():
            records[field] = [one[field] for one in described]
        found = torch.zeros(torch.get_num_threads(), len(described), results).double()
        call = getattr(self._library, function)

        def work(part: int, parts: int) -> None:
            call(_address(records), len(records), part, parts, found[part].data_ptr())

        self._share(work, elements)
        return found

    def _share(self, work: Callable[[int, int], None], elements: int) -> None:
        """Call `work(part, parts)` for all parts of some elements, the first by this thread."""
        parts = max(1, min(torch.get_num_threads(), elements // LEAST))
        others = [self._pool.submit(work, part, parts) for part in range(1, parts)]
        try:
            work(0, parts)
        finally:
            wait(others)  # an interrupt must not leave threads at tensors that are let go
        for other in others:
            other.result()


def _stored(
    tensor: Tensor, noise: Noise, kind: str, before: float = 1.0, after: float = 1.0
) -> tuple[object, ...]:
    """Return a description of a tensor, over which scale it is stored and will be."""
    rounded = tensor.dtype in DROPPED
    cuts = _address(noise.cuts(kind)) if rounded else 0
    write = factors(tensor.dtype, 1 / after)
    return tensor.data_ptr(), FORMATS[tensor.dtype], before, write, cuts


def _gradient(grad: Tensor) -> Described:
    return {"data": grad.data_ptr(), "format": FORMATS[grad.dtype], "count": grad.numel()}


def _lag(update: Update, group: Group) -> Described:
    beta2, second = group["betas"][1], update.state[update.storage.kinds[1]]
    return {
        "grad": tuple(_gradient(update.grad).values()),
        "second": second.data_ptr(),
        "format": FORMATS[second.dtype],
        "read": update.storage.scales(update.state)[1],
        "rise_second": 1 - beta2,
        "correction": 1 - beta2**update.step,
        "least": group["eps"] ** 2,
    }


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # half the time that `ctypes` takes


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor whose elements fill its memory in some order; a copy where it must be."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor if channels_last else tensor.contiguous()
