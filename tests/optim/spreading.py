"""AdamW and averages of tensors whose rows are spread over processes, beside ordinary ones.

Every process moves the same ordinary tensors and its rows of spread ones.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from bifocal.optim.adamw import AdamW
from bifocal.optim.average import Average
from bifocal.optim.library import find_compiler
from bifocal.optim.spread import first_row, local, own_rows, whole
from bifocal.world import join_world

SHAPES = {"large": (700, 200), "kernel": (5, 3, 4, 4), "few": (2, 3)}
STEPS = 4


def module(dtype: torch.dtype, mesh: DeviceMesh | None) -> nn.Module:
    made, generator = nn.Module(), torch.Generator().manual_seed(0)
    for name, shape in SHAPES.items():
        drawn = torch.randn(shape, generator=generator).to(dtype)
        made.register_parameter(name, nn.Parameter(_placed(drawn, mesh)))
    made.register_parameter("gain", nn.Parameter(torch.ones(8)))
    return made


def optimizer(module: nn.Module, statistics: str, limit: float | None, compiled: bool) -> AdamW:
    settings = {"weight_decay": 0.1, "statistics": statistics, "max_update_rms": limit}
    made = AdamW(list(module.named_parameters()), lr=0.01, **settings)
    if compiled:
        made.compile()
    return made


def give_gradients(made: nn.Module, step: int, mesh: DeviceMesh | None) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in made.parameters():
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        # Squares of some gradients are rounded down to nothing in a shorter format.
        parameter.grad = _placed(drawn * 10.0 ** (3 * step - 6), mesh if drawn.ndim > 1 else None)


def check(
    mesh: DeviceMesh, statistics: str, dtype: torch.dtype, limit: float | None, compiled: bool
) -> None:
    plain, spread = module(dtype, None), module(dtype, mesh)
    optimizers = [optimizer(made, statistics, limit, compiled) for made in (plain, spread)]
    averages = Average(plain, 0.9), Average(spread, 0.9)
    for step in range(STEPS):
        give_gradients(plain, step, None)
        give_gradients(spread, step, mesh)
        found = [one.clip_gradients() for one in optimizers]
        assert abs(found[0].norm - found[1].norm) <= 1e-5 * found[0].norm
        assert list(found[0].peaks.values()) == list(found[1].peaks.values())
        assert bool(found[0].peaks) == (optimizers[0]._kernel is not None)
        for one, seen, average, made in zip(
            optimizers, found, averages, (plain, spread), strict=True
        ):
            one.step(peaks=seen.peaks)
            average.update(made, step + 1)
    for (name, ordinary), parts in zip(plain.named_parameters(), spread.parameters(), strict=True):
        assert isinstance(parts, DTensor) == (name in SHAPES)
        states = [one.state[p] for one, p in zip(optimizers, (ordinary, parts), strict=True)]
        pairs = {"weight": (ordinary, whole(local(parts), parts))}
        pairs |= {kind: (states[0][kind], whole(states[1][kind], parts)) for kind in states[0]}
        pairs["average"] = (averages[0].weights()[name], averages[1].weights()[name])
        for kind, (expected, found) in pairs.items():
            case = f"{name}, {kind} ({statistics}, {dtype}, {limit}, {compiled})"
            if limit is None:
                assert torch.equal(expected, found), case
            else:  # the mean that clips is summed in another order
                torch.testing.assert_close(expected, found, rtol=1e-2, atol=1e-4, msg=case)


def check_rows(mesh: DeviceMesh) -> None:
    counted = torch.arange(700 * 200).view(700, 200)
    for shape in SHAPES.values():
        full = counted.flatten()[: torch.Size(shape).numel()].view(shape)
        spread = _placed(full, mesh)
        assert torch.equal(local(spread), own_rows(full, spread))
        if len(local(spread)):
            assert torch.equal(local(spread)[0], full[first_row(spread)])


def _placed(tensor: torch.Tensor, mesh: DeviceMesh | None) -> torch.Tensor:
    return distribute_tensor(tensor, mesh, [Shard(0)]) if mesh else tensor


def main() -> None:
    """Check every kind of statistics; a collective call of a world's processes."""
    with join_world("cpu") as world, torch.no_grad():
        processes = init_device_mesh("cpu", (world.size,))
        check_rows(processes)
        statistics, weights = ("float32", "bfloat16", "float16"), (torch.float32, torch.bfloat16)
        cases = list(itertools.product(statistics, weights, (None, 1.0), (False,)))
        if find_compiler():
            cases += itertools.product(statistics, weights, (None, 1.0), (True,))
        for case in cases:
            check(processes, *case)
        print(f"compared {len(cases)}")
