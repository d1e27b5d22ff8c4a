"""Pictures with a right and a wrong caption made of the same words.

Knows: which exchange of words makes a true caption false. Must not know: pixels. A model that
reads a caption as a bag of words scores exactly one half (the test of Thrush et al. 2022,
"Winoground", arXiv 2204.03162, and Yuksekgonul et al. 2023, arXiv 2210.01936, in small).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from bifocal.data.scenes.draws import Draws
from bifocal.data.scenes.grammar import FRAMES, Wording, framed, noun_phrase, related
from bifocal.data.scenes.layout import sample_related_scene
from bifocal.data.scenes.render import render
from bifocal.data.scenes.scene import Group, Scene
from bifocal.data.scenes.source import check_arguments, stream
from bifocal.data.scenes.vocabulary import seen_pairs

Kind = Literal["relation", "attribute"]
Attribute = Literal["colour", "size", "texture"]

_ATTRIBUTES: tuple[Attribute, ...] = ("colour", "size", "texture")


@dataclass(frozen=True, slots=True)
class BindingPair:
    """A picture, the caption that is true of it, and one of the same words that is not.

    Attributes:
        kind: "relation" when the two groups are exchanged, "attribute" when one of their
            attributes is.
    """

    image: UInt8[np.ndarray, "height width 3"]
    caption: str
    wrong_caption: str
    kind: Kind


def _fits(groups: tuple[Group, ...], attribute: Attribute) -> bool:
    """Whether exchanging the attribute gives a false caption of things that training knows.

    Pairs that only the wrong caption could contain would give it away by being held out.
    """
    first, second = groups
    match attribute:
        case "colour":
            seen = seen_pairs()
            return (
                first.colour != second.colour
                and (second.colour, first.shape) in seen
                and (first.colour, second.shape) in seen
            )
        case "size":
            # Medium is unsaid. Three or four large things beside others never occur, for want of
            # room, so that a wrong caption with them could be told without the picture.
            sizes = {first.size, second.size}
            return sizes == {"small", "large"} and max(first.count, second.count) <= 2
        case "texture":
            return first.texture != second.texture


def _exchanged(groups: tuple[Group, ...], attribute: Attribute) -> tuple[Group, Group]:
    first, second = groups
    match attribute:
        case "colour":
            return replace(first, colour=second.colour), replace(second, colour=first.colour)
        case "size":
            return replace(first, size=second.size), replace(second, size=first.size)
        case "texture":
            return replace(first, texture=second.texture), replace(second, texture=first.texture)


def _captions(draws: Draws, scene: Scene, kind: Kind, attribute: Attribute) -> tuple[str, str]:
    """Return the right and the wrong caption, put in the same way."""
    assert scene.relation is not None
    # One wording for both groups: "tiny" and "big" must be able to change places.
    wording = Wording(
        synonym=draws.below(12),
        texture_last=draws.chance(0.25),
        say_size=attribute == "size" or draws.chance(0.3),
        say_texture=attribute == "texture" or draws.chance(0.3),
        say_solid=attribute == "texture",
    )
    frame, synonym, relation = draws.choice(FRAMES), draws.below(3), scene.relation

    def say(groups: tuple[Group, ...]) -> str:
        first, second = (noun_phrase(group, wording) for group in groups)
        return framed(frame, related(first, second, relation, synonym), groups[0].count)

    if kind == "relation":
        return say(scene.groups), say(scene.groups[::-1])
    return say(scene.groups), say(_exchanged(scene.groups, attribute))


def _binding_pair(seed: int, index: int, image_size: int) -> BindingPair:
    draws = stream("binding", seed, index)
    kind: Kind = "relation" if index % 2 == 0 else "attribute"
    attribute = draws.choice(_ATTRIBUTES)
    # At least one scene in twelve fits; "a" against "an" and "is" against "are" cost a few more.
    while True:
        scene = sample_related_scene(draws, seen_pairs())
        if kind == "attribute" and not _fits(scene.groups, attribute):
            continue
        right, wrong = _captions(draws, scene, kind, attribute)
        if sorted(right.split()) == sorted(wrong.split()):
            return BindingPair(render(scene, image_size), right, wrong, kind)


def binding_pairs(length: int, seed: int, image_size: int = 64) -> Iterator[BindingPair]:
    """Return pictures with a right and a wrong caption, the two kinds in turn.

    Args:
        length: how many, at least 1.
        seed: 0 to 2**64 - 1.
        image_size: side of the pictures in pixels, at least 16; legible from 32.

    Returns:
        an iterator that draws one pair at a time; the same arguments give the same pairs, and a
        longer one begins with a shorter one's.

    Raises:
        ConfigError: an argument is out of range.
    """
    check_arguments(length, seed, image_size)
    return (_binding_pair(seed, index, image_size) for index in range(length))
