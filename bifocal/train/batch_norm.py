"""The running statistics of BatchNorm when one step is many forward passes.

A step may read its batch in chunks, read each chunk twice and share the batch with other
processes. The statistics that a tower normalises by while it trains are those of a chunk; the
running ones, by which it will be used, move once a step: by the mean over chunks and processes.
So runs whose chunks are the same agree, however many processes the chunks are spread over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bifocal.world import World


class RunningStatistics:
    """Those of one model over one step.

    Args:
        model: its layers in training mode take part; others are left alone.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        self._momentum = [norm.momentum for norm in self._norms]
        self._before = [
            {name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in self._norms
        ]

    def chunk(self, number: int) -> None:
        """Prepare for the first reading of chunk `number`, counted from 0."""
        self._weigh(1 / (number + 1))  # the mean of all chunks so far

    def replay(self) -> None:
        """Prepare for readings that leave no trace."""
        self._weigh(0.0)

    @torch.no_grad()
    def finish(self, world: World, *, keep: bool) -> None:
        """Move the statistics by what the step has read, or put them back as they were."""
        if keep and self._norms:
            self._share(world)
        for norm, momentum, before in zip(self._norms, self._momentum, self._before, strict=True):
            assert momentum is not None
            norm.momentum = momentum
            for name, now in norm.named_buffers():
                old = before[name]
                match name:
                    case "num_batches_tracked":
                        now.copy_(old + int(keep))
                    case _ if keep:
                        now.copy_(_moved(old, now, momentum))
                    case _:
                        now.copy_(old)

    def _share(self, world: World) -> None:
        """Replace what was read by its mean over the processes, in one collective call."""
        if world.size == 1:
            return
        buffers = [b for norm in self._norms for b in norm.buffers() if b.is_floating_point()]
        mean = world.sum_(torch.cat(buffers)) / world.size
        for buffer, part in zip(buffers, mean.split([len(b) for b in buffers]), strict=True):
            buffer.copy_(part)

    def _weigh(self, momentum: float) -> None:
        for norm in self._norms:
            norm.momentum = momentum


def _moved(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    return old * (1 - momentum) + new * momentum
