"""Memory and time of an optimizer's step: bifocal's AdamW in every format beside torch's fused one.

    python -m benchmarks.optimizer [--model ViT-B/32] [--steps 5] [--rounds 2]

The parameters have the model's shapes and random values, the gradients are random and stay the
same; every optimizer moves them on the CPU, one after the other, in turns. Bytes are counted over
weights, gradients and state, times are the fastest of all turns: of a step alone, and of what a
trainer does, which measures the norm of the gradients and then steps (torch's optimizers by
`torch.nn.utils.get_total_norm`). "Compiled" is what `train.compile` sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchmarks.timing import timed
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.optim.adamw import AdamW
from bifocal.optim.groups import store_matrices

Named = list[tuple[str, nn.Parameter]]
SETTINGS = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}


def torch_fused(named: Named) -> torch.optim.Optimizer:
    return torch.optim.AdamW(named, fused=True, **SETTINGS)


def torch_default(named: Named) -> torch.optim.Optimizer:
    return torch.optim.AdamW(named, **SETTINGS)


def ours(**options: object) -> Callable[[Named], AdamW]:
    return lambda named: AdamW(named, **SETTINGS, **options)  # pyright: ignore[reportArgumentType]


def half_text(named: Named) -> AdamW:
    text = (parameter for name, parameter in named if not name.startswith("visual."))
    store_matrices(text, torch.bfloat16)
    return AdamW(named, statistics="bfloat16", **SETTINGS)


def half_all(named: Named) -> AdamW:
    store_matrices((parameter for _, parameter in named), torch.bfloat16)
    return AdamW(named, statistics="bfloat16", **SETTINGS)


def compiled(make: Callable[[Named], AdamW]) -> Callable[[Named], AdamW]:
    def made(named: Named) -> AdamW:
        optimizer = make(named)
        optimizer.compile()
        return optimizer

    return made


CASES: dict[str, Callable[[Named], torch.optim.Optimizer]] = {
    "torch fused": torch_fused,
    "torch default": torch_default,
    "float32": ours(),
    "clipped": ours(max_update_rms=1.0),
    "bfloat16 statistics": ours(statistics="bfloat16"),
    "float16 statistics": ours(statistics="float16"),
    "bfloat16, text tower too": half_text,
    "bfloat16, every matrix": half_all,
}
ON_A_CPU: dict[str, Callable[[Named], torch.optim.Optimizer]] = {
    "bfloat16 statistics, compiled": compiled(ours(statistics="bfloat16")),
    "float16 statistics, compiled": compiled(ours(statistics="float16")),
    "clipped, compiled": compiled(ours(max_update_rms=1.0)),
    "bfloat16, text tower too, compiled": compiled(half_text),
    "bfloat16, every matrix, compiled": compiled(half_all),
}


def measure(
    make: Callable[[Named], torch.optim.Optimizer],
    model: str,
    steps: int,
    device: torch.device | None = None,
) -> tuple[float, float, float]:
    """Return (bytes a parameter, seconds of the fastest step, those of norm and step together)."""
    device = device or torch.device("cpu")
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in CLIP(zoo.config(model)).named_parameters()}
    named = [
        (name, nn.Parameter(0.02 * torch.randn(shape, device=device)))
        for name, shape in shapes.items()
    ]
    optimizer = make(named)
    for _, parameter in named:
        parameter.grad = torch.randn_like(parameter).mul_(1e-3)
    weights = [parameter for _, parameter in named]

    def measured_step() -> None:
        if isinstance(optimizer, AdamW):
            optimizer.step(peaks=optimizer.clip_gradients().peaks)
        else:
            torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None]).item()
            optimizer.step()

    alone = min(timed(optimizer.step, device) for _ in range(steps + 1))
    measured = min(timed(measured_step, device) for _ in range(steps + 1))
    held = [*weights, *(p.grad for p in weights), *states(optimizer)]
    size = sum(tensor.numel() * tensor.element_size() for tensor in held if tensor is not None)
    return size / sum(p.numel() for p in weights), alone, measured


def states(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    return (tensor for state in optimizer.state.values() for tensor in state.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32", choices=zoo.names())
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds):
        for name, make in (CASES | ON_A_CPU).items():
            found.setdefault(name, []).append(measure(make, options.model, options.steps))
    least = {
        name: [min(column) for column in zip(*rows, strict=True)] for name, rows in found.items()
    }
    print(f"{options.model}, {torch.get_num_threads()} threads")
    print(f"{'':35} {'B/parameter':>11} {'step':>17} {'norm and step':>19}")
    for name, (size, *seconds) in least.items():
        columns = [
            f"{1e3 * time:8.1f} ms {time / reference:5.2f}x"
            for time, reference in zip(seconds, least["torch fused"][1:], strict=True)
        ]
        print(f"{name:35} {size:11.2f} {columns[0]} {columns[1]:>19}")


if __name__ == "__main__":
    main()
