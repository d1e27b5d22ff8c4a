"""The words of the built-in scenes, what each looks like, and which pairs are held out.

Knows: names, tones, extents and the zero-shot split. Must not know: how anything is drawn or
phrased. The split follows the idea of zero-shot transfer (Radford et al. 2021, arXiv 2103.00020,
section 3.1) for a world of attributes: whole (colour, shape) pairs are absent from training, so
what is measured is the transfer of known words to combinations never seen together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]
Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tones:
    """The colour that names an object, and the second tone that draws its texture."""

    main: RGB
    second: RGB


COLOURS: dict[str, Tones] = {
    "red": Tones((222, 32, 38), (118, 4, 18)),
    "orange": Tones((246, 130, 14), (255, 210, 150)),
    "yellow": Tones((252, 216, 28), (170, 136, 0)),
    "green": Tones((34, 156, 58), (146, 220, 142)),
    "cyan": Tones((40, 206, 210), (6, 128, 140)),
    "blue": Tones((34, 78, 216), (142, 176, 255)),
    "purple": Tones((128, 42, 172), (208, 152, 236)),
    "pink": Tones((255, 108, 180), (255, 214, 236)),
    "brown": Tones((122, 70, 32), (196, 148, 104)),
    "black": Tones((22, 22, 26), (146, 146, 152)),
}

SHAPES: dict[str, str] = {  # singular -> plural
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "heart": "hearts",
    "cross": "crosses",
    "ring": "rings",
    "diamond": "diamonds",
    "crescent": "crescents",
    "arrow": "arrows",
}

TEXTURES = ("solid", "striped", "dotted", "checkered")

# Radii as fractions of the picture. The gaps between the ranges are what makes "small" and
# "large" facts rather than opinions.
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.100, 0.110),
    "medium": (0.140, 0.152),
    "large": (0.195, 0.213),
}

MAX_COUNT = 4

# Where a group's block is anchored along x and along y.
POSITIONS: dict[str, tuple[str, str]] = {
    "top left": ("low", "low"),
    "top right": ("high", "low"),
    "bottom left": ("low", "high"),
    "bottom right": ("high", "high"),
    "centre": ("middle", "middle"),
    "left": ("low", "middle"),
    "right": ("high", "middle"),
    "top": ("middle", "low"),
    "bottom": ("middle", "high"),
}

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

# Muted on purpose: no background has enough chroma to be taken for an object's colour.
BACKGROUND_TONES: tuple[RGB, ...] = (
    (236, 236, 232),
    (228, 224, 214),
    (214, 220, 226),
    (212, 218, 208),
    (222, 214, 218),
    (190, 190, 188),
    (182, 188, 196),
    (192, 186, 176),
    (158, 162, 160),
    (92, 96, 102),
    (66, 70, 74),
    (50, 50, 54),
)

# Euclidean distance in RGB between an object's main tone and both background tones. 85 keeps
# black off charcoal and brown off slate.
MIN_CONTRAST = 85.0


@cache
def held_out_pairs() -> frozenset[Pair]:
    """Return the 25 (colour, shape) pairs that no training picture or caption contains.

    Held out are the pairs with (colour + 3 · shape) mod 10 in {0, 4}, and for even shapes also 7,
    where colour and shape stand for their places in the tables. Each residue is a permutation
    matrix, so every colour and every shape loses two or three of its ten pairs.
    """
    return frozenset(
        (colour, shape)
        for s, shape in enumerate(SHAPES)
        for c, colour in enumerate(COLOURS)
        if (residue := (c + 3 * s) % 10) in (0, 4) or (residue == 7 and s % 2 == 0)
    )


@cache
def all_pairs() -> tuple[Pair, ...]:
    """Return all 100 (colour, shape) pairs, colour by colour, in the order of the classes."""
    return tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@cache
def seen_pairs() -> tuple[Pair, ...]:
    """Return the pairs that training may contain."""
    return tuple(pair for pair in all_pairs() if pair not in held_out_pairs())


@cache
def unseen_pairs() -> tuple[Pair, ...]:
    """Return the held-out pairs in the order of the classes."""
    return tuple(pair for pair in all_pairs() if pair in held_out_pairs())
