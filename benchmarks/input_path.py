"""From shards to training pictures and token ids: bifocal beside open_clip, in one process tree.

    PEERS/bin/python -m benchmarks.input_path [--pairs 512] [--rounds 5] [--photographs SHARDS]

Three sets of shards hold the same photographs: as they are, with a shorter side of 256 pixels, and
of 640 by 480. open_clip is its trainer's own `get_wds_dataset` (webdataset, Pillow, torchvision):

    as it trains    RandomResizedCrop(224), 90 to 100% of the picture's area and a ratio of 3:4 to
                    4:3; float32, normalised; ids padded to 77
    same crop       the largest square, cut at random and resized to 224, bicubic: what bifocal
                    does; left as uint8, as bifocal's is normalised on the device

bifocal is its own `Loader` with the paper's crop (the largest square at random, bicubic) as uint8:
`exact`, and `fast`, which decodes a JPEG at 1/2, 1/4 or 1/8 where the crop keeps 224 pixels. Each
shuffles, tokenizes and makes batches of 64. All read the same pairs, in turn; figures are medians.

`CPU` is processor time a pair in one thread, which other work on the machine moves little. `rate`
is pairs a second with two workers (processes of open_clip, threads of bifocal). "x" are ratios to
open_clip as it trains, of CPU and of rate, and of CPU to the same crop.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import open_clip
import torch
import torchvision.transforms.functional as TF
from open_clip.transform import image_transform
from open_clip_train.data import get_wds_dataset
from PIL import Image

from benchmarks.picture_shards import KINDS, photographs, write_shards
from bifocal.data.batch import Batch
from bifocal.data.captions import CaptionReader
from bifocal.data.loader import Loader, Samples
from bifocal.data.plan import Plan
from bifocal.data.shards import ShardSource
from bifocal.inputs.preprocess import Augment, Draw, random_crop, shorter_side
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.world import World

SIZE = 224
BATCH = 64
WORKERS = 2
AUGMENT = Augment()

Reader = Callable[[list[Path], int, int], Iterable[object]]
"""Shards, pairs and workers to batches."""


def main() -> None:
    """Print a table a set of shards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    root = Path(os.environ.get("BIFOCAL_DATA", "data"))
    parser.add_argument(
        "--photographs", type=Path, default=root / "cc12m_sample", help="a shard, or a folder"
    )
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, help="batches over which memory is told")
    options = parser.parse_args()
    options.pairs = max(1, options.pairs // (WORKERS * BATCH)) * WORKERS * BATCH
    torch.set_num_threads(1)
    found = photographs(options.photographs)
    with tempfile.TemporaryDirectory() as name:
        for kind, make in KINDS.items():
            pairs = [(make(picture), text) for picture, text in found]
            shards = write_shards(Path(name) / kind, pairs, options.pairs // WORKERS, WORKERS)
            if options.memory:
                tell_memory(kind, shards, options.memory)
            else:
                compare(kind, shards, options)


def compare(kind: str, shards: list[Path], options: argparse.Namespace) -> None:
    """Print CPU and rate of every reader."""
    cpu: dict[str, list[float]] = {name: [] for name in READERS}
    wall: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(options.rounds):
        for name, reader in READERS.items():
            cpu[name].append(timed(reader, shards, options.pairs, 0)[0])
            wall[name].append(timed(reader, shards, options.pairs, WORKERS)[1])
    cost = {name: statistics.median(times) for name, times in cpu.items()}
    took = {name: statistics.median(times) for name, times in wall.items()}
    peer, same, *_ = READERS
    size = sum(path.stat().st_size for path in shards) / options.pairs / 1000
    print(f"{kind}: {options.pairs} pairs of {size:.0f} kB, {options.rounds} rounds")
    print(f"  {'':24}{'CPU, us':>9}{'x':>7}{'x same':>8}{'rate, /s':>10}{'x':>7}")
    for name in READERS:
        ratios = cost[peer] / cost[name], cost[same] / cost[name], took[peer] / took[name]
        rate = options.pairs / took[name]
        print(
            f"  {name:24}{cost[name] / options.pairs * 1e6:9.0f}{ratios[0]:7.2f}{ratios[1]:8.2f}"
            f"{rate:10.0f}{ratios[2]:7.2f}",
            flush=True,
        )
    exact, fast = (next(iter(by_bifocal(fast, shards, options.pairs, 0))) for fast in (False, True))
    apart = (exact.images.int() - fast.images.int()).abs().float().mean(dim=(1, 2, 3))
    print(
        f"  fast and exact differ by {apart.mean():.2f} levels of 255, "
        f"{apart.max():.2f} in the worst of {BATCH}, cut up to a reduced pixel apart",
        flush=True,
    )


def timed(reader: Reader, shards: list[Path], pairs: int, workers: int) -> tuple[float, float]:
    """Return the processor's and the clock's seconds from the first batch asked for to the last."""
    batches = iter(reader(shards, pairs, workers))
    began, used = time.perf_counter(), time.process_time()
    count = sum(1 for _ in itertools.islice(batches, pairs // BATCH))
    taken = time.process_time() - used, time.perf_counter() - began
    assert count == pairs // BATCH, f"{count} batches"
    return taken


def by_open_clip(
    transform: Callable[[Image.Image], torch.Tensor], shards: list[Path], pairs: int, workers: int
) -> Iterator[object]:
    """Return the batches of open_clip's trainer.

    Where it has workers they read an epoch before, so that starting them costs nothing.
    """
    arguments = argparse.Namespace(
        train_data="::".join(map(str, shards)),
        train_data_upsampling_factors=None,
        train_num_samples=pairs,
        batch_size=BATCH,
        world_size=1,
        workers=workers,
        seed=0,
    )
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    loader = get_wds_dataset(arguments, transform, True, tokenizer=tokenizer).dataloader
    if workers:
        for _ in loader:
            pass
    return iter(loader)


def same_crop(image: Image.Image) -> torch.Tensor:
    """Return the largest square at a random place, resized, as uint8."""
    side = min(image.size)
    top = int(torch.randint(image.height - side + 1, ()))
    left = int(torch.randint(image.width - side + 1, ()))
    bicubic = TF.InterpolationMode.BICUBIC
    square = TF.resized_crop(image, top, left, side, side, [SIZE, SIZE], bicubic)
    return TF.pil_to_tensor(square)


def by_bifocal(is_fast: bool, shards: list[Path], pairs: int, workers: int) -> Iterator[Batch]:
    """Return bifocal's training batches."""
    samples = training_samples(is_fast, shards)
    assert len(samples.source) == pairs
    return iter(Loader(samples, BATCH, world=World(), threads=workers))


def training_samples(is_fast: bool, shards: list[Path]) -> Samples:
    """Return what `bifocal train` reads."""
    source = ShardSource(shards, CaptionReader())
    least = functools.partial(shorter_side, SIZE, AUGMENT) if is_fast else None
    return Samples(source, Plan(source, 0), vocabulary(), crop, shorter_side=least)


@functools.cache
def vocabulary() -> Tokenizer:
    """Return OpenAI's."""
    path = shipped_vocabulary()
    assert path is not None, "no vocabulary: run with the Python of the peers' environment"
    return Tokenizer.load(path)


def crop(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    return random_crop(image, SIZE, AUGMENT, draw)


READERS: dict[str, Reader] = {
    "open_clip, as it trains": functools.partial(by_open_clip, image_transform(SIZE, True)),
    "open_clip, same crop": functools.partial(by_open_clip, same_crop),
    "bifocal exact": functools.partial(by_bifocal, False),
    "bifocal fast": functools.partial(by_bifocal, True),
}


def tell_memory(kind: str, shards: list[Path], batches: int) -> None:
    """Print the resident memory of this process on the way through many batches."""
    loader = iter(Loader(training_samples(False, shards), BATCH, world=World(), threads=2))
    print(f"{kind}: resident MB after", end="")
    for n, _ in enumerate(itertools.islice(loader, batches), 1):
        if n == 100 or n % max(1, batches // 4) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"  {n}: {pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f}", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
