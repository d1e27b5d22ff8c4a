"""Memory and time of an optimizer's step: bifocal's AdamW in every format beside torch's fused one.

    python -m benchmarks.optimizer [--model ViT-B/32] [--turns 15]

The parameters have the model's shapes and random values, the gradients are random and stay the
same. Every optimizer takes turns with torch's fused one, as what a machine's memory gives changes
within a minute. Bytes are counted over weights, gradients and state; times are medians, ratios
medians of those of the turns: of a step alone, and of what a trainer does, which measures the norm
of the gradients and then steps (torch's optimizers by `torch.nn.utils.get_total_norm`). "Compiled"
is what `train.compile` sets.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Cost:
    """What an optimizer costs beside torch's fused one."""

    size: float
    """Bytes a parameter."""
    step: float
    """Seconds of a step alone."""
    step_ratio: float
    both: float
    """Seconds of a step with the norm before it."""
    both_ratio: float


class Subject:
    """An optimizer with parameters of its own, and their gradients."""

    def __init__(
        self,
        make: Callable[[Named], torch.optim.Optimizer],
        shapes: dict[str, torch.Size],
        device: torch.device,
    ) -> None:
        named = [
            (name, nn.Parameter(0.02 * torch.randn(shape, device=device)))
            for name, shape in shapes.items()
        ]
        self.optimizer = make(named)
        self.weights = [parameter for _, parameter in named]
        for weight in self.weights:
            weight.grad = torch.randn_like(weight).mul_(1e-3)

    def step(self) -> None:
        """Step alone."""
        self.optimizer.step()

    def both(self) -> None:
        """Measure the norm and step."""
        if isinstance(self.optimizer, AdamW):
            self.optimizer.step(peaks=self.optimizer.clip_gradients().peaks)
            return
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        torch.nn.utils.get_total_norm(gradients).item()
        self.optimizer.step()

    def size(self) -> float:
        """Return the bytes a parameter of weights, gradients and state."""
        gradients = (weight.grad for weight in self.weights)
        held = [*self.weights, *gradients, *states(self.optimizer)]
        size = sum(tensor.numel() * tensor.element_size() for tensor in held if tensor is not None)
        return size / sum(weight.numel() for weight in self.weights)


def measure(
    make: Callable[[Named], torch.optim.Optimizer], model: str, turns: int, device: torch.device
) -> Cost:
    """Let an optimizer and torch's fused one move a model's parameters in turns."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in CLIP(zoo.config(model)).named_parameters()}
    subject, fused = Subject(make, shapes, device), Subject(torch_fused, shapes, device)
    calls = subject.step, fused.step, subject.both, fused.both
    for call in calls:
        call()
    times = [[timed(call, device) for call in calls] for _ in range(turns)]
    step, _, both, _ = (statistics.median(column) for column in zip(*times, strict=True))
    return Cost(
        size=subject.size(),
        step=step,
        step_ratio=statistics.median(own / other for own, other, _, _ in times),
        both=both,
        both_ratio=statistics.median(own / other for _, _, own, other in times),
    )


def states(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    return (tensor for state in optimizer.state.values() for tensor in state.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32", choices=zoo.names())
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    print(f"{options.model}, {torch.get_num_threads()} threads")
    print(f"{'':35} {'B/parameter':>11} {'step':>17} {'norm and step':>19}")
    for name, make in (CASES | ON_A_CPU).items():
        found = measure(make, options.model, options.turns, torch.device("cpu"))
        step = f"{1e3 * found.step:8.1f} ms {found.step_ratio:5.2f}x"
        both = f"{1e3 * found.both:8.1f} ms {found.both_ratio:5.2f}x"
        print(f"{name:35} {found.size:11.2f} {step} {both:>19}", flush=True)


if __name__ == "__main__":
    main()
