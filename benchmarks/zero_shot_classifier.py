"""A zero-shot classifier of 1,000 classes and 80 templates: bifocal beside open_clip.

    PEERS/bin/python -m benchmarks.zero_shot_classifier [--classes 20] [--rounds 3] [--no-whole]

Both make the same classifier from the same prompts with the same random weights of a published
architecture, in one process: open_clip by `build_zero_shot_classifier`, which reads every prompt at
77 tokens; bifocal by `Pretrained.class_weights`, which reads what prompts share once and nothing
behind their ends. The peer needs a quarter of an hour and more for all 80,000 prompts on two cores,
so both are timed on some of the classes, in alternation, and bifocal on all of them too; beside
that stands the time that the peer would take at its own rate. Its rate does not depend on the
number of classes; bifocal's grows with it, since more prompts share a beginning.

The status is 1 where bifocal is less than five times as fast on the same classes, or any number of
the classifier differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.prompts import ClassNames, class_prompts
from bifocal.inputs.templates import template_set
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.vocabulary import shipped_vocabulary
from bifocal.model import zoo
from bifocal.model.clip import CLIP
from bifocal.pretrained import Pretrained

FASTER, APART = 5.0, 1e-5
Build = Callable[[Sequence[str]], Tensor]
FIRST = (
    "red blue grey giant little spotted striped mountain river desert forest garden northern "
    "southern common great long-tailed short-eared golden silver wooden iron electric paper "
    "racing"
)
SECOND = (
    "fox owl beetle lizard snail salmon heron otter terrier hound tabby pony lantern kettle "
    "hammer guitar violin typewriter umbrella backpack sandal helmet teapot bookcase rocking chair "
    "lawn mower space heater trailer truck ferry canoe bridge lighthouse windmill barn castle "
    "pretzel lasagne pomegranate mushroom"
)


def main() -> int:
    """Print prompts a second of both, the ratio and the largest difference; return the status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--classes", type=int, default=20, help="that both are timed on")
    parser.add_argument("--templates", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-whole", action="store_true", help="leave out all 1,000 classes")
    options = parser.parse_args()
    names = [" ".join(pair) for pair in product(SECOND.split(), FIRST.split())][:1000]
    # Spread over the list, so that a slice is as varied as the whole.
    few = names[:: len(names) // options.classes][: options.classes]
    templates = template_set(f"photos:{options.templates}")
    model, theirs = peer_classifier(options.model, templates)
    ours = own_classifier(options.model, templates, model.state_dict())
    seconds: dict[str, list[float]] = {"open_clip": [], "bifocal": []}
    apart = 0.0
    for _ in range(options.rounds):
        taken, expected = timed(lambda: theirs(few))
        seconds["open_clip"].append(taken)
        taken, found = timed(lambda: ours(few))
        seconds["bifocal"].append(taken)
        apart = max(apart, (found - expected).abs().max().item())
    prompts = len(few) * len(templates)
    rates = {name: prompts / statistics.median(times) for name, times in seconds.items()}
    ratio = rates["bifocal"] / rates["open_clip"]
    print(f"{options.model}, {torch.get_num_threads()} threads, float32")
    print(f"{len(few)} classes x {len(templates)} templates, median of {options.rounds}:")
    for name, rate in rates.items():
        print(f"  {name:<10} {rate:9.1f} prompts/s")
    print(f"  ratio      {ratio:9.2f}    bound {FASTER:g}")
    print(f"  apart      {apart:9.1e}    bound {APART:g}")
    if not options.no_whole:
        taken, _ = timed(lambda: ours(names))
        prompts = len(names) * len(templates)
        foreseen = prompts / rates["open_clip"]
        print(f"{len(names)} classes x {len(templates)} templates, once:")
        print(f"  bifocal    {taken:9.1f} s, {prompts / taken:.1f} prompts/s")
        print(f"  open_clip  {foreseen:9.1f} s at the rate above, not run; {foreseen / taken:.1f}x")
    return 0 if ratio >= FASTER and apart <= APART else 1


def peer_classifier(name: str, templates: tuple[str, ...]) -> tuple[torch.nn.Module, Build]:
    """Return open_clip's model, and what makes a classifier, "classes embed_dim", of names."""
    named = name.replace("/", "-").replace("@336px", "-336")
    model = open_clip.create_model(named, force_quick_gelu=True).eval()
    tokenizer = open_clip.get_tokenizer(named)
    build = open_clip.build_zero_shot_classifier
    return model, lambda names: build(model, tokenizer, names, templates).T


def own_classifier(name: str, templates: tuple[str, ...], weights: Mapping[str, Tensor]) -> Build:
    """Return what makes a classifier, "classes embed_dim", of names."""
    config = zoo.config(name)
    model = CLIP(config).eval()
    model.load_state_dict(weights)
    tokenizer = Tokenizer.load(Path(shipped_vocabulary() or ""), config.text.context_length)
    pretrained = Pretrained(model, tokenizer, Preprocess(image_size=config.vision.image_size))
    # Sentences as they are: the peer changes no article.
    return lambda names: pretrained.class_weights(
        class_prompts(ClassNames.of(names), templates, articles=False)
    )


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    sys.exit(main())
