"""Both towers without gradients: bifocal beside open_clip, same weights' shapes, one process.

    PEERS/bin/python -m benchmarks.towers [--model ViT-B/32] [--images 32] [--prompts 256]

Pictures are random; prompts are "a photo of a NAME." as zero-shot classification uses them. Each
library tokenizes for itself beforehand: open_clip to 77 tokens, bifocal to the longest prompt. The
figures are medians of the rounds, in which both take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch

from benchmarks.tokenizer import NOUNS
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.model import zoo
from bifocal.model.clip import CLIP


@torch.inference_mode()
def main() -> None:
    """Print items a second of both towers and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    name = options.model.replace("/", "-").replace("@336px", "-336")
    theirs = open_clip.create_model(name, force_quick_gelu=True).eval()
    ours = CLIP(zoo.config(options.model)).eval()
    size = zoo.config(options.model).vision.image_size
    images = torch.randn(options.images, 3, size, size)
    prompts = [f"a photo of a {NOUNS[n % len(NOUNS)]} {n}." for n in range(options.prompts)]
    padded = open_clip.get_tokenizer(name)(prompts)
    vocabulary = shipped_vocabulary()
    assert vocabulary is not None, "open_clip ships one"
    tokens = Tokenizer.load(Path(vocabulary))(prompts)
    compare(
        "encode_image",
        options.images,
        lambda: theirs.encode_image(images),
        lambda: ours.encode_image(images),
        options.rounds,
    )
    compare(
        "encode_text",
        options.prompts,
        lambda: theirs.encode_text(padded),
        lambda: ours.encode_text(tokens),
        options.rounds,
    )


def compare(
    what: str,
    count: int,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
) -> None:
    """Time both in turn and print their rates."""
    seconds = [(timed(theirs), timed(ours)) for _ in range(1 + rounds)][1:]
    rates = [count / statistics.median(times) for times in zip(*seconds, strict=True)]
    print(
        f"{what:<13} open_clip {rates[0]:8.1f}/s   bifocal {rates[1]:8.1f}/s   "
        f"{rates[1] / rates[0]:.2f}x"
    )


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
