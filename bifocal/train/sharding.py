"""Matrices, their gradients and averages spread over the processes (FSDP2).

Each process holds a part of the rows of every matrix and kernel; a block is put together while it
is computed, and taken apart again (Rajbhandari et al. 2020, "ZeRO", arXiv 1910.02054; Zhao et al.
2023, arXiv 2304.11277). Gains, biases and the temperature, a thousandth of a model, are held by
everyone, and so are the text tower's positional embedding and its projection, which stand outside
all modules. So is a locked tower, which has no gradients and averages to spread: FSDP clears its
books where gradients arrive. Gradients are summed, as everywhere in bifocal, not averaged.

Checkpoints hold whole tensors: they do not tell, nor care, over how many processes a run was
spread.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bifocal.model.clip import TwoTowers
from bifocal.model.layers import ResidualAttentionBlock
from bifocal.model.modified_resnet import Bottleneck
from bifocal.model.projection import ProjectionHead
from bifocal.optim.spread import local, own_rows, whole
from bifocal.precision import DTYPES, Precision
from bifocal.world import World


def shard(model: TwoTowers, world: World, precision: Precision = "float32") -> None:
    """Spread a model's matrices over the processes; with one process there is nothing to do.

    Args:
        model: in the dtypes that it is stored in, locked if it is to be.
        world: the processes.
        precision: that the towers compute in. Matrices travel in it, since autocast would round
            them to it anyway; gradients are summed in float32 or better.
    """
    if world.size == 1:
        return
    from torch.distributed import group
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Of the world's own group: init_device_mesh makes another one for CPUs beside a CUDA device.
    assert group.WORLD is not None
    mesh = DeviceMesh.from_group(group.WORLD, world.device.type)
    compute = None if precision == "float32" else DTYPES[precision]
    sums = model.logit_scale.dtype
    for module, matrices in units(model).items():
        for matrix in matrices:
            matrix.data = matrix.data.contiguous()  # kernels too
        # Autocast leaves embeddings as they are.
        dtype = None if module is model.token_embedding else compute
        unit = fully_shard(
            module,
            mesh=mesh,
            ignored_params={parameter for parameter in module.parameters() if parameter.ndim < 2},
            mp_policy=MixedPrecisionPolicy(dtype, reduce_dtype=sums, cast_forward_inputs=False),
        )
        unit.set_gradient_divide_factor(1.0)
        # Else gloo is asked for an operation that it does not have.
        unit.set_force_sum_reduction_for_comms(True)


def units(model: TwoTowers) -> dict[nn.Module, list[nn.Parameter]]:
    """Return the modules whose matrices are put together when they are called, and the matrices.

    A locked tower has none.

    Blocks come first, and are taken apart again when they have been called; what is around them
    stays together until the gradients are there.
    """
    blocks = [module for module in model.modules() if is_block(module)]
    found: dict[nn.Module, list[nn.Parameter]] = {}
    taken: set[nn.Parameter] = set()
    heads = [module for module in model.modules() if isinstance(module, ProjectionHead)]
    for module in (*blocks, model.visual, *model.text_modules(), *heads):
        matrices = [p for p in module.parameters() if p.ndim >= 2 and p not in taken]
        if any(p.requires_grad for p in matrices):
            found[module] = matrices
        taken.update(matrices)
    return found


def is_block(module: nn.Module) -> bool:
    """Return whether a module is one of those that a tower stacks."""
    return isinstance(module, ResidualAttentionBlock | Bottleneck)


def whole_state(model: TwoTowers, *, keep: bool) -> dict[str, Tensor]:
    """Return the model's state, put together; a collective call where the model is spread.

    Args:
        model: whose state it is.
        keep: whether this process wants it; else it only takes part, and gets nothing.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        put_together = whole(local(tensor), tensor)
        if keep:
            state[name] = put_together
    return state


@torch.no_grad()
def load_whole(model: TwoTowers, state: Mapping[str, Tensor]) -> None:
    """Give a model, spread or not, the weights of a whole state of the same shapes."""
    for name, tensor in model.state_dict().items():
        local(tensor).copy_(own_rows(state[name], tensor))
