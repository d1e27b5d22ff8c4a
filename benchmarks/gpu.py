"""All that is worth timing on one CUDA device, with the share of its peak that is achieved.

    python -m benchmarks.gpu [--models ViT-B/32 RN50 ViT-L/14] [--json figures.json]

The loss by tiles beside the whole matrix, the training step of published architectures, the forward
passes of their towers, and the optimizer in every format beside torch's fused one. Where open_clip
is installed (the peers' environment) its losses, towers and training steps are timed too, on the
same captions and pictures. `--device cpu` with small sizes tries the program out.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.loss import LOSSES
from benchmarks.optimizer import CASES, measure
from benchmarks.timing import timed
from benchmarks.tokenizer import invented
from benchmarks.towers import bifocal_towers, open_clip_towers
from benchmarks.train_step import bifocal_step, open_clip_step
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.model import zoo
from bifocal.precision import autocast
from bifocal.train.cost import Setup, flops
from bifocal.train.rehearsal import Towers
from bifocal.types import Features
from bifocal.world import pick_device

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Products in bfloat16 with float32 sums, operations a second without sparsity, by the makers' data
sheets."""
ROUNDS, IN_A_ROW = 5, 4
PLAIN = 40e9
"""Bytes that the plain loss's five matrices may take."""


def main() -> None:
    """Measure everything, print it, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=["ViT-B/32", "RN50", "ViT-L/14"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--peak", type=float, help="10^12 operations a second in bfloat16")
    parser.add_argument("--vocabulary", type=Path, default=shipped_vocabulary())
    parser.add_argument("--captions", type=Path, help="one a line; invented ones by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.vocabulary is None:
        parser.error("no published vocabulary: give --vocabulary bpe_simple_vocab_16e6.txt.gz")
    lines = options.captions.read_text("utf-8").splitlines() if options.captions else invented(2000)
    device = pick_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    peak = options.peak * 1e12 if options.peak else peak_of(name)
    print(f"{name}, torch {torch.__version__}")
    found: dict[str, object] = {"device": name, "torch": torch.__version__, "peak": peak}
    found["loss"] = losses(options.sizes, device)
    texts = lines[: options.batch_size]
    found["towers"] = [
        towers(model, texts, options.vocabulary, device, peak) for model in options.models
    ]
    found["steps"] = [
        steps(
            argparse.Namespace(
                model=model,
                batch_size=options.batch_size,
                precision=precision,
                vocabulary=options.vocabulary,
            ),
            texts,
            device,
            peak,
        )
        for model in options.models
        for precision in options.precisions
    ]
    found["optimizer"] = optimizers(options.models[0], device)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def peak_of(name: str) -> float | None:
    """Return the peak of a device by its name, if it is known."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def losses(sizes: list[int], device: torch.device) -> list[dict[str, object]]:
    """Time every loss by batch size, with the memory beyond features and gradients."""
    rows = []
    for size in sizes:
        image, text = F.normalize(torch.randn(2, size, 512, device=device), dim=-1)
        scale, bias = torch.tensor(50.0, device=device), torch.tensor(-10.0, device=device)
        features = Features(image, text, scale, bias)
        for name, kind in LOSSES.items():
            if "tiled" not in name and 5 * 4 * size**2 > PLAIN:
                continue
            loss = kind()
            seconds = median(lambda loss=loss, f=features: loss.value_and_grad(f), device)
            extra = grown(lambda loss=loss, f=features: loss.value_and_grad(f), device)
            extra -= 2 * size * 512 * 4
            rows.append({"loss": name, "batch": size, "seconds": seconds, "bytes": extra})
            print(f"  {name} {size:6}: {1e3 * seconds:9.2f} ms {extra / 1e6:9.0f} MB", flush=True)
    return rows


@torch.inference_mode()
def towers(
    model: str, texts: Sequence[str], vocabulary: Path, device: torch.device, peak: float | None
) -> dict[str, object]:
    """Time both forward passes in bfloat16, beside open_clip's where it is installed."""
    config, batch = zoo.config(model), len(texts)
    size = config.vision.image_size
    images = torch.randn(batch, 3, size, size, device=device)
    makers = {"bifocal": lambda: bifocal_towers(model, images, texts, vocabulary)}
    if has_peer(model):
        makers["open_clip"] = lambda: open_clip_towers(model, images, texts)
    counted = flops(Setup(Towers(config, length=mean_length(texts, vocabulary)), batch))
    row: dict[str, object] = {"model": model, "batch": batch}
    for name, make in makers.items():
        for tower, read in make().items():
            with autocast("bfloat16", device):
                rate = batch / median(read, device)
            found: dict[str, float | None] = {"per_second": rate}
            if name == "bifocal":
                operations = counted.image if tower == "image" else counted.text
                found["peak_share"] = peak and rate * operations / peak
            row[f"{name} {tower}"] = found
            print(f"  {model} {tower} {name}: {rate:10.0f} a second{share(found)}", flush=True)
    return row


def has_peer(model: str) -> bool:
    """Return whether open_clip is installed and knows a model."""
    return importlib.util.find_spec("open_clip") is not None and model in zoo.PUBLISHED


def mean_length(texts: Sequence[str], vocabulary: Path) -> int:
    """Return the tokens of a text, on average."""
    ends = Tokenizer.load(vocabulary)(texts).argmax(dim=1)
    return round((ends + 1).float().mean().item())


def steps(
    options: argparse.Namespace, captions: list[str], device: torch.device, peak: float | None
) -> dict[str, object]:
    """Time whole training steps, beside open_clip's where it is installed."""
    model, batch, precision = options.model, options.batch_size, options.precision
    makers = {"bifocal": bifocal_step}
    if has_peer(model):
        makers["open_clip"] = open_clip_step
    row: dict[str, object] = {"model": model, "batch": batch, "precision": precision}
    length = mean_length(captions, options.vocabulary)
    for name, make in makers.items():
        step = make(options, captions, device)
        # Several in a row, as in training: the next one is queued while the last one computes.
        rate = batch * IN_A_ROW / median(lambda s=step: [s() for _ in range(IN_A_ROW)], device)
        held = grown(step, device)
        found: dict[str, float | None] = {"pairs_per_second": rate, "bytes": held}
        if name == "bifocal" and precision == "bfloat16":
            counted = flops(Setup(Towers(zoo.config(model), length), batch))
            found["peak_share"] = peak and rate * counted.useful / peak
        row[name] = found
        shown = f"{rate:9.1f} pairs/s {held / 1e9:6.2f} GB{share(found)}"
        print(f"  {model} {precision} {name}: {shown}", flush=True)
        del step
    if "open_clip" in row:
        ours, theirs = (row[name]["pairs_per_second"] for name in makers)  # pyright: ignore
        row["ratio"] = ours / theirs
        print(f"  {model} {precision} ratio: {ours / theirs:.2f}", flush=True)
    return row


def optimizers(model: str, device: torch.device) -> list[dict[str, object]]:
    """Time a step of every optimizer on a model's parameters, in turns with torch's fused one."""
    rows = []
    for name, make in CASES.items():
        found = measure(make, model, ROUNDS, device)
        rows.append({"optimizer": name, **dataclasses.asdict(found)})
        step = f"{1e3 * found.step:8.2f} ms ({found.step_ratio:.2f}x)"
        both = f"{1e3 * found.both:8.2f} ms ({found.both_ratio:.2f}x) with the norm"
        print(f"  {name:26} {found.size:6.2f} B/parameter {step} {both}", flush=True)
    return rows


def median(call: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of a call, after two that warm up."""
    for _ in range(2):
        call()
    return statistics.median(timed(call, device) for _ in range(ROUNDS))


def grown(call: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that a call holds at most beyond what was held before."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def share(row: Mapping[str, float | None]) -> str:
    """Return the share of the peak as text, where it is known."""
    found = row.get("peak_share")
    return f"  {found:.0%} of the peak" if found else ""


if __name__ == "__main__":
    main()
