"""Tensors whose rows are spread over the processes, beside ordinary ones.

Fully sharded training (FSDP2) replaces a parameter and its gradient by a `DTensor`: each process
holds some of its rows, and may hold none. These functions take either kind, so that whoever works
on elements works on those that are here, and whoever writes a file gets the whole.

Knows rows; knows nothing of models or of what is done with the elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_spread(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether the rows of a tensor are spread over the processes."""
    if type(tensor) in (Tensor, nn.Parameter):
        return False
    from torch.distributed.tensor import DTensor  # half a second that most programs can save

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return the rows that are here, sharing their memory: all of an ordinary tensor."""
    return tensor.to_local() if is_spread(tensor) else tensor


def first_row(tensor: Tensor) -> int:
    """Return which row of the whole tensor is the first that is here."""
    if not is_spread(tensor):
        return 0
    mesh = tensor.device_mesh
    a_process = -(-tensor.shape[0] // mesh.size())
    return min(mesh.get_local_rank() * a_process, tensor.shape[0])


def own_rows(whole: Tensor, like: Tensor) -> Tensor:
    """Return those rows of `whole` that this process holds of `like`."""
    first = first_row(like)
    return whole[first : first + len(local(like))] if is_spread(like) else whole


def whole(part: Tensor, like: Tensor) -> Tensor:
    """Return the whole of which `part` holds the rows that are here of `like`.

    A collective call where `like` is spread; an ordinary tensor, or one whose shape is not that of
    the rows, is returned as it is.
    """
    if not is_spread(like) or part.shape != local(like).shape:
        return part
    from torch.distributed.tensor import DTensor

    spread = DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return spread.full_tensor()


def over_processes(
    values: Float[Tensor, " tensors"], tensors: Sequence[Tensor], operation: dist.ReduceOp.RedOpType
) -> Float[Tensor, " tensors"]:
    """Combine what each process found of its rows, one value a tensor; a collective call.

    Values of ordinary tensors, which every process finds alike, stay.
    """
    rows = [place for place, tensor in enumerate(tensors) if is_spread(tensor)]
    if not rows:
        return values
    first = tensors[rows[0]]
    assert is_spread(first)
    found = values[rows]
    dist.all_reduce(found, operation, group=first.device_mesh.get_group())
    return values.index_copy(0, torch.tensor(rows, device=values.device), found)
