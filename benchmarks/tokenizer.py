"""Captions a second: bifocal's tokenizer beside the reference implementation, in one run.

    PEERS/bin/python -m benchmarks.tokenizer [--captions FILE] [--vocabulary FILE] [--repeats 5]

The reference is open_clip's `SimpleTokenizer`, a copy of OpenAI's. Both turn the same captions
into padded matrices of 77 ids, in turn; each figure is the best of the repeats. "cold" is the
first pass, with nothing remembered; both remember words. All ids are compared.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary

NOUNS = ("dog", "cat", "child", "woman", "bicycle", "beach", "street", "guitar", "kitchen", "snow")
SENTENCES = (
    "A {} and a {} in front of a {}.",
    "two {}s playing near the {}, one with a {}",
    "The {}'s {} is larger than the {} ({} years old)",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--captions", type=Path, help="one a line; invented ones by default")
    parser.add_argument("--vocabulary", type=Path, default=shipped_vocabulary())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    captions = (
        arguments.captions.read_text("utf-8").splitlines() if arguments.captions else invented()
    )
    import open_clip  # of the peers' environment; others here invent captions without it

    reference = open_clip.SimpleTokenizer(str(arguments.vocabulary))
    mine = Tokenizer.load(arguments.vocabulary)
    cold = rate(reference, captions), rate(mine, captions)
    turns = [(rate(reference, captions), rate(mine, captions)) for _ in range(arguments.repeats)]
    assert torch.equal(reference(captions), mine(captions)), "the ids differ"
    print(f"{len(captions):,} captions, {torch.get_num_threads()} threads; ids equal")
    for name, (theirs, ours) in (
        ("cold", cold),
        ("warm", tuple(map(max, zip(*turns, strict=True)))),
    ):
        print(
            f"{name}  reference {theirs:10,.0f}/s   bifocal {ours:10,.0f}/s   {ours / theirs:.1f}x"
        )


def invented(count: int = 10_000) -> list[str]:
    """Return captions of about the length and variety of real ones."""
    draw = random.Random(0)
    return [
        sentence.format(*draw.choices(NOUNS, k=3), draw.randrange(99))
        for sentence in draw.choices(SENTENCES, k=count)
    ]


def rate(tokenize: Callable[[Sequence[str]], Tensor], captions: Sequence[str]) -> float:
    """Return captions a second of one pass."""
    start = time.perf_counter()
    tokenize(captions)
    return len(captions) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
