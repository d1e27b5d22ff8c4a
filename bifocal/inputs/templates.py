"""Prompt templates by kind of picture, composed from parts.

A template is opening × adjective × noun × closing, as "a" "blurry" "photo" "of a {}.". The order
is a fixed walk through all combinations that begins with the plainest and strides evenly, so that
the first n templates differ in all their parts. The words are this project's own; only "a photo of
a {}." is the paper's.

`photos` means the kind's first templates, `photos:80` the first eighty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bifocal.errors import ConfigError, did_you_mean

USUAL = 16
"""Templates where no number is asked for."""
GOLDEN = (math.sqrt(5) - 1) / 2
_VOWELS = "aeio"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the templates of one kind of picture are made of; the first of each is the plainest."""

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    closings: tuple[str, ...]
    openings: tuple[str, ...] = ("a", "the", "one", "this")

    def __len__(self) -> int:
        return (
            len(self.openings) * (1 + len(self.adjectives)) * len(self.nouns) * len(self.closings)
        )

    def template(self, number: int) -> str:
        """Return combination `number`, counted with the closing as the fastest."""
        rest, closing = divmod(number, len(self.closings))
        rest, noun = divmod(rest, len(self.nouns))
        opening, adjective = divmod(rest, 1 + len(self.adjectives))
        words = [self.adjectives[adjective - 1], self.nouns[noun]] if adjective else []
        words = words or [self.nouns[noun]]
        start = self.openings[opening]
        if start == "a" and words[0][0] in _VOWELS:
            start = "an"
        return " ".join([start, *words, self.closings[closing]])


_THING = ("of a {}.", "of the {}.", "of one {}.", "that shows a {}.", "with a {} in it.")
_KIND = ("of a {}.", "of the {}.", "of a {} up close.", "of a {} from the side.")

KINDS: dict[str, Parts] = {
    "photos": Parts(
        ("blurry", "sharp", "dark", "bright", "cropped", "grainy", "colourful", "faded", "clean"),
        ("photo", "picture", "snapshot", "close-up", "image"),
        _THING,
    ),
    "small": Parts(
        ("blurry", "tiny", "low-resolution", "pixelated", "coarse", "soft", "cropped"),
        ("photo", "thumbnail", "picture", "icon-sized image", "image"),
        _THING,
    ),
    "textures": Parts(
        ("close", "detailed", "flat", "regular", "rough", "evenly lit"),
        ("photo", "pattern", "sample", "surface", "macro shot"),
        ("of a {} texture.", "of {} material.", "that looks {}.", "of something {}."),
    ),
    "aerial": Parts(
        ("clear", "hazy", "centred", "wide", "high-altitude", "cropped"),
        ("satellite photo", "aerial view", "overhead image", "satellite picture", "map tile"),
        ("of {}.", "of a {}.", "of the {}.", "that shows {}.", "of land with {}."),
    ),
    "animals": Parts(
        ("sharp", "candid", "playful", "sleepy", "outdoor", "wild", "cropped"),
        ("photo", "portrait", "close-up", "picture", "snapshot"),
        (
            "of a {}.",
            "of a {}, an animal.",
            "of the {}, a pet.",
            "of a young {}.",
            "of a {} at rest.",
        ),
    ),
    "food": Parts(
        ("tasty", "home-made", "fresh", "bright", "overhead", "blurry"),
        ("photo", "picture", "close-up", "menu picture"),
        (
            "of {}.",
            "of {}, a dish.",
            "of some {} on a plate.",
            "of a serving of {}.",
            "of {} as food.",
        ),
    ),
    "vehicles": Parts(
        ("sharp", "distant", "moving", "parked", "polished", "old", "cropped"),
        ("photo", "picture", "side view", "front view", "snapshot"),
        (
            "of a {}.",
            "of the {}.",
            "of a {}, a vehicle.",
            "of a {} outdoors.",
            "of the model {}.",
        ),
    ),
    "aircraft": Parts(
        ("sharp", "distant", "bright", "grainy", "cropped"),
        ("photo", "picture", "side view", "airfield snapshot"),
        (
            "of a {}, an aircraft.",
            "of the {} aeroplane.",
            "of a {} in flight.",
            "of a {} on the ground.",
        ),
    ),
    "plants": Parts(
        ("sharp", "bright", "wild", "potted", "macro", "blooming"),
        ("photo", "picture", "close-up", "garden photo"),
        (
            "of a {}.",
            "of a {}, a flower.",
            "of a {}, a plant.",
            "of the {} in bloom.",
            "of {} leaves.",
        ),
    ),
    "scenes": Parts(
        ("wide", "sunny", "empty", "crowded", "dim", "quiet", "colourful"),
        ("photo", "view", "picture", "scene"),
        ("of a {}.", "of the {}.", "taken at a {}.", "from inside a {}.", "of a place: {}."),
    ),
    "actions": Parts(
        ("blurry", "candid", "sharp", "cropped", "lively"),
        ("photo", "video frame", "picture", "snapshot"),
        (
            "of a person {}.",
            "of someone {}.",
            "of people {}.",
            "of {}.",
            "that shows the activity {}.",
        ),
    ),
    "characters": Parts(
        ("handwritten", "printed", "bold", "thin", "slanted", "smudged"),
        ("photo", "image", "scan", "drawing"),
        (
            'of the number "{}".',
            'of the character "{}".',
            'of the symbol "{}".',
            'of a sign that reads "{}".',
        ),
    ),
    "medical": Parts(
        ("stained", "magnified", "clinical", "high-contrast", "grey", "cropped"),
        ("image", "scan", "microscope picture", "slide", "photo"),
        ("of {}.", "that shows {}.", "with signs of {}.", "of tissue with {}.", "of a case of {}."),
    ),
    "art": Parts(
        ("simple", "rough", "detailed", "black and white", "colourful", "careful"),
        ("drawing", "sketch", "painting", "cartoon", "print", "sculpture"),
        _KIND,
    ),
    "text": Parts(
        ("clear", "printed", "plain", "framed", "small"),
        ("image", "picture", "page", "screen"),
        (
            "of text that is {}.",
            "of a {} sentence.",
            "of a {} review.",
            'with the words "{}".',
        ),
    ),
}


def template_set(spec: str) -> tuple[str, ...]:
    """Return the templates that a name means: "photos", or "photos:80" for eighty of them.

    Raises:
        ConfigError: no such kind is known, or it has fewer templates.
    """
    kind, _, number = spec.partition(":")
    if kind not in KINDS:
        raise ConfigError(
            f"no templates are called '{kind}'{did_you_mean(kind, KINDS)}; known are "
            f"{', '.join(KINDS)}; a file of templates ends in .json, .toml or .txt"
        )
    if number and not (number.isdecimal() and int(number)):
        raise ConfigError(f"'{spec}': write a number of templates, as {kind}:80")
    return compose(KINDS[kind], int(number) if number else USUAL)


def compose(parts: Parts, count: int) -> tuple[str, ...]:
    """Return the first `count` templates of the walk through all combinations of parts.

    Raises:
        ConfigError: there are fewer.
    """
    total = len(parts)
    if count > total:
        raise ConfigError(f"{count} templates of parts that make {total}: ask for fewer")
    # A stride prime to the total meets every combination once; near the golden section it spreads.
    stride = max(1, round(total * GOLDEN))
    while math.gcd(stride, total) > 1:
        stride += 1
    return tuple(parts.template(number * stride % total) for number in range(count))
