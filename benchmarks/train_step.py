"""One training step of a published architecture: bifocal beside open_clip, in one process.

    PEERS/bin/python -m benchmarks.train_step [--model ViT-B/32] [--batch-size 32] [--steps 3]

Both take the same pictures and captions and do what their trainers do: forward, contrastive loss,
backward, AdamW, clamp of the temperature; float32 on the CPU, or the precision given on a CUDA
device. open_clip's tokenizer pads captions to 77, as its trainer feeds them; bifocal
packs them. Steps alternate; the figures are medians.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from benchmarks.timing import timed
from benchmarks.tokenizer import invented
from bifocal.data.batch import Batch
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.loss.tiled import TiledSoftmaxLoss
from bifocal.train.prepare import prepare
from bifocal.train.recipe import resolve_run
from bifocal.train.step import train_step
from bifocal.types import Cursor
from bifocal.world import World, pick_device

WARM_UP = 1


def main() -> None:
    """Print pairs a second of both and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--captions", type=Path, help="one a line; invented ones by default")
    parser.add_argument("--vocabulary", type=Path, default=shipped_vocabulary())
    options = parser.parse_args()
    if options.vocabulary is None:
        parser.error("no published vocabulary: give --vocabulary bpe_simple_vocab_16e6.txt.gz")
    lines = options.captions.read_text("utf-8").splitlines() if options.captions else invented(2000)
    captions = lines[: options.batch_size]
    device = pick_device(options.device)
    ours = bifocal_step(options, captions, device)
    theirs = open_clip_step(options, captions, device)
    seconds: dict[str, list[float]] = {"open_clip": [], "bifocal": []}
    for n in range(WARM_UP + options.steps):
        for name, step in (("open_clip", theirs), ("bifocal", ours)):
            taken = timed(step, device)
            if n >= WARM_UP:
                seconds[name].append(taken)
    rates = {name: options.batch_size / statistics.median(times) for name, times in seconds.items()}
    print(f"{options.model}, batch {options.batch_size}, {options.precision}, {device}")
    for name, rate in rates.items():
        print(f"  {name:<10} {rate:9.2f} pairs/s")
    print(f"  ratio      {rates['bifocal'] / rates['open_clip']:9.2f}")


def bifocal_step(
    options: argparse.Namespace, captions: list[str], device: torch.device
) -> Callable[[], object]:
    """Return one step of bifocal's trainer on a fixed batch."""
    table = {
        "out": "unused",
        "model": {"preset": options.model},
        "tokenizer": {"path": str(options.vocabulary.absolute())},
        "data": {"train": "scenes:train:64", "batch_size": options.batch_size},
        "optim": {"warmup_steps": 0},
        "train": {"steps": 1000, "precision": options.precision},
    }
    run = prepare(resolve_run(table, "benchmark"), World(device=device), print)
    size = run.preprocess.image_size
    tokens = run.tokenizer(captions)
    lengths = tokens.argmax(dim=1) + 1
    batch = Batch(
        images=pictures(len(captions), size),
        tokens=tokens[:, : int(lengths.max())],
        lengths=lengths,
        keys=tuple(captions),
        positions=torch.arange(len(captions)),
        cursor=Cursor(0, run.source.identity),
    )
    loss = TiledSoftmaxLoss()
    return lambda: train_step(run, batch, loss)


def open_clip_step(
    options: argparse.Namespace, captions: list[str], device: torch.device
) -> Callable[[], object]:
    """Return one step of open_clip's trainer on a fixed batch."""
    import open_clip  # of the peers' environment

    name = options.model.replace("/", "-").replace("@336px", "-336")
    model = open_clip.create_model(name, force_quick_gelu=True, device=device).train()
    loss = open_clip.loss.ClipLoss()
    gains = [p for n, p in model.named_parameters() if p.ndim < 2 or "bn" in n or "ln" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim < 2 or "bn" in n or "ln" in n)]
    groups = [{"params": gains, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    tokens = open_clip.get_tokenizer(name)(captions)
    size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    images = pictures(len(captions), size).float() / 127.5 - 1
    half = options.precision == "bfloat16"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            # Pictures and captions travel to the device, as they do for bifocal.
            image, text, scale = model(images.to(device), tokens.to(device))[:3]
            total = loss(image, text, scale)
        total.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))

    return step


def pictures(count: int, size: int) -> torch.Tensor:
    """Return random levels as uint8."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


if __name__ == "__main__":
    main()
