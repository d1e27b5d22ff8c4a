"""Both towers without gradients: bifocal beside open_clip, same weights' shapes, one process.

    PEERS/bin/python -m benchmarks.towers [--model ViT-B/32] [--images 32] [--prompts 256]

Pictures are random; prompts are "a photo of a NAME." as zero-shot classification uses them. Each
library tokenizes for itself beforehand: open_clip to 77 tokens, bifocal to the longest prompt. The
figures are medians of the rounds, in which both take turns.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.timing import timed
from benchmarks.tokenizer import NOUNS
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.model import zoo
from bifocal.model.clip import CLIP

Reads = dict[str, Callable[[], object]]
"""What reads all pictures, and all texts, by tower."""


@torch.inference_mode()
def main() -> None:
    """Print items a second of both towers and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = zoo.config(options.model).vision.image_size
    images = torch.randn(options.images, 3, size, size)
    prompts = [f"a photo of a {NOUNS[n % len(NOUNS)]} {n}." for n in range(options.prompts)]
    vocabulary = shipped_vocabulary()
    assert vocabulary is not None, "open_clip ships one"
    theirs = open_clip_towers(options.model, images, prompts)
    ours = bifocal_towers(options.model, images, prompts, vocabulary)
    for tower, count in (("image", options.images), ("text", options.prompts)):
        compare(f"encode_{tower}", count, theirs[tower], ours[tower], options.rounds)


def bifocal_towers(
    model: str, images: torch.Tensor, texts: Sequence[str], vocabulary: Path
) -> Reads:
    """Return both towers of a model with random weights, on the device of the pictures."""
    config = zoo.config(model)
    tokenizer = Tokenizer(Tokenizer.load(vocabulary).merges, config.text.context_length)
    text = config.text.model_copy(update={"vocab_size": tokenizer.vocab_size})
    clip = CLIP(config.model_copy(update={"text": text})).to(images.device).eval()
    tokens = tokenizer(texts)
    lengths = (tokens.argmax(dim=1) + 1).tolist()
    tokens = tokens.to(images.device)
    return {
        "image": lambda: clip.encode_image(images),
        "text": lambda: clip.encode_text(tokens, lengths),
    }


def open_clip_towers(model: str, images: torch.Tensor, texts: Sequence[str]) -> Reads:
    """Return those of open_clip; texts are padded to 77 tokens."""
    import open_clip  # of the peers' environment

    name = model.replace("/", "-").replace("@336px", "-336")
    clip = open_clip.create_model(name, force_quick_gelu=True).to(images.device).eval()
    tokens = open_clip.get_tokenizer(name)(list(texts)).to(images.device)
    return {"image": lambda: clip.encode_image(images), "text": lambda: clip.encode_text(tokens)}


def compare(
    what: str,
    count: int,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
) -> None:
    """Time both in turn and print their rates."""
    device = torch.device("cpu")
    seconds = [[timed(call, device) for call in (theirs, ours)] for _ in range(1 + rounds)][1:]
    rates = [count / statistics.median(times) for times in zip(*seconds, strict=True)]
    print(
        f"{what:<13} open_clip {rates[0]:8.1f}/s   bifocal {rates[1]:8.1f}/s   "
        f"{rates[1] / rates[0]:.2f}x"
    )


if __name__ == "__main__":
    main()
