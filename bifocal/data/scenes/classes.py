"""The classes of the built-in scenes for zero-shot use, and the prompts that suit them.

Knows: names, indices and phrasing of classes. Must not know: pictures.
"""

from __future__ import annotations

from functools import cache

from bifocal.data.scenes.vocabulary import TEXTURES, all_pairs, held_out_pairs

TEMPLATES = (
    "a {}",
    "a picture of a {}",
    "an image of a {}",
    "a drawing of a {}",
    "there is a {}",
)
"""Prompts in the captions' own words."""


@cache
def class_names(textured: bool = False) -> tuple[str, ...]:
    """Return the names of all classes, seen and unseen.

    Args:
        textured: 400 classes such as "striped red circle" and "solid red circle", four in a row
            for each of the 100 (colour, shape) classes, which are the answer otherwise.
    """
    pairs = tuple(f"{colour} {shape}" for colour, shape in all_pairs())
    if not textured:
        return pairs
    return tuple(f"{texture} {pair}" for pair in pairs for texture in TEXTURES)


@cache
def unseen_classes(textured: bool = False) -> tuple[int, ...]:
    """Return the indices of the classes that training never contains, in rising order."""
    fold = len(TEXTURES) if textured else 1
    return tuple(
        index * fold + texture
        for index, pair in enumerate(all_pairs())
        if pair in held_out_pairs()
        for texture in range(fold)
    )
