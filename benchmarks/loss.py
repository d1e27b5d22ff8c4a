"""Time and memory of the contrastive loss by batch size: by tiles beside the whole matrix.

    [PEERS/bin/]python -m benchmarks.loss [--sizes 1024 4096 8192 32768] [--embed-dim 512]

Where open_clip is installed (the peers' environment) its losses take part, on the same features.

Each measurement has a process of its own. "peak" is what the process grew by beyond the features
and their gradients, by the system's own account; the time is the median of three calls after one.
The plain form is left out where its matrices alone would not fit into half of the memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from bifocal.loss.objective import ContrastiveLoss
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.types import Features, Sharing
from bifocal.world import ALONE, World


class OpenClipLoss:
    """A loss of open_clip's through autograd, with what `ContrastiveLoss` promises of one process.

    Args:
        name: of the class, ClipLoss or SigLipLoss.
    """

    def __init__(self, name: str) -> None:
        import open_clip  # of the peers' environment

        self._loss = getattr(open_clip.loss, name)()
        self._biased = name == "SigLipLoss"

    def value_and_grad(
        self, features: Features, world: World = ALONE, sharing: Sharing | None = None
    ) -> tuple[torch.Tensor, Features]:
        """Return the loss and its gradients."""
        given = [features.image, features.text, features.logit_scale]
        if self._biased:
            assert features.logit_bias is not None
            given.append(features.logit_bias)
        leaves = [tensor.detach().requires_grad_() for tensor in given]
        loss = self._loss(*leaves)
        return loss.detach(), Features(*torch.autograd.grad(loss, leaves))


LOSSES: dict[str, Callable[[], ContrastiveLoss]] = {
    "softmax plain": SoftmaxLoss,
    "softmax open_clip": lambda: OpenClipLoss("ClipLoss"),
    "softmax tiled": TiledSoftmaxLoss,
    "sigmoid plain": SigmoidLoss,
    "sigmoid open_clip": lambda: OpenClipLoss("SigLipLoss"),
    "sigmoid tiled": TiledSigmoidLoss,
}
if not importlib.util.find_spec("open_clip"):
    LOSSES = {name: make for name, make in LOSSES.items() if "open_clip" not in name}
PLAIN_MATRICES = 5
"""Matrices of N² numbers that the plain form holds at once: logits, softmaxes, gradients."""


def measure(name: str, size: int, embed_dim: int) -> dict[str, float]:
    """Return the seconds of a call and the bytes that the process grew by."""
    loss = LOSSES[name]()
    warm = features(64, embed_dim)
    loss.value_and_grad(warm)
    made = features(size, embed_dim)
    gradients = torch.zeros(2, size, embed_dim)  # so that what they need is not counted
    before = peak()
    del gradients
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        loss.value_and_grad(made)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds[1:]), "bytes": peak() - before}


def features(size: int, embed_dim: int) -> Features:
    """Return features of random directions."""
    image, text = F.normalize(torch.randn(2, size, embed_dim), dim=-1)
    return Features(image, text, torch.tensor(50.0), torch.tensor(-10.0))


def peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fits(name: str, size: int) -> bool:
    """Return whether a measurement leaves half of the machine's memory free."""
    total = int(Path("/proc/meminfo").read_text("ascii").split()[1]) * 1024
    return "tiled" in name or PLAIN_MATRICES * 4 * size**2 < total / 2


def main() -> None:
    """Print a table, each form beside its plain one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096, 8192, 32768])
    parser.add_argument("--embed-dim", type=int, default=512)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, size = options.one
        print(json.dumps(measure(name, int(size), options.embed_dim)))
        return
    print(f"{'batch':>7}  {'loss':<17} {'seconds':>9} {'peak MB':>9} {'time to plain':>14}")
    for size in options.sizes:
        plain = None
        for name in LOSSES:
            if not fits(name, size):
                matrices = PLAIN_MATRICES * 4 * size**2 / 1e9
                print(f"{size:7}  {name:<17} needs about {matrices:.0f} GB")
                plain = None
                continue
            command = [sys.executable, "-m", "benchmarks.loss", "--one", name, str(size)]
            command += ["--embed-dim", str(options.embed_dim)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout)
            seconds, megabytes = found["seconds"], found["bytes"] / 1e6
            plain = seconds if "plain" in name else plain
            ratio = f"{seconds / plain:14.2f}" if plain else ""
            print(f"{size:7}  {name:<17} {seconds:9.3f} {megabytes:9.0f} {ratio}")


if __name__ == "__main__":
    main()
