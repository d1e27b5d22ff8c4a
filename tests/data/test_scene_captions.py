"""The captions of the built-in scenes: true, in plain English, and silent about held-out pairs.

Captions are read back by a small parser that shares no table with the grammar, and what they
claim is checked against the scene's geometry.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest

from bifocal.data.scenes import SceneSource, binding_pairs, held_out_pairs
from bifocal.data.scenes.scene import Group, Scene
from bifocal.data.scenes.vocabulary import all_pairs

NUMBER = {"a": 1, "an": 1, "two": 2, "a pair of": 2, "three": 3, "four": 4}
SIZE = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large"}
TEXTURE = {
    "solid": "solid",
    "plain": "solid",
    "striped": "striped",
    "dotted": "dotted",
    "spotted": "dotted",
    "checkered": "checkered",
    "checked": "checkered",
}
COLOUR = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black"]
SHAPE = [
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "ring",
    "diamond",
    "crescent",
    "arrow",
]
NOUN = {s: (s, False) for s in SHAPE} | {s + "s": (s, True) for s in SHAPE if s != "cross"}
NOUN |= {"crosses": ("cross", True), "shape": (None, False), "shapes": (None, True)}
RELATION = {
    "left": "left of|to the left of|on the left of",
    "right": "right of|to the right of|on the right of",
    "above": "above|over|higher than",
    "below": "below|under|beneath",
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PHRASE = re.compile(
    rf"\b({'|'.join(sorted(NUMBER, key=len, reverse=True))}) "
    rf"((?:(?:{'|'.join([*SIZE, *TEXTURE, *COLOUR])}) )*)"
    rf"({'|'.join(sorted(NOUN, key=len, reverse=True))})\b"
)


@dataclass
class Claim:
    """What one noun phrase says of a group; None where it says nothing."""

    count: int
    size: str | None
    texture: str | None
    colour: str | None
    shape: str | None

    def holds(self, group: Group) -> bool:
        facts = (group.size, group.texture, group.colour, group.shape)
        said = (self.size, self.texture, self.colour, self.shape)
        agree = all(s is None or s == f for s, f in zip(said, facts, strict=True))
        return agree and self.count == len(group.centres)


def parse_phrase(match: re.Match[str]) -> Claim:
    number, adjectives, noun = match[1], match[2].split(), match[3]
    shape, plural = NOUN[noun]
    assert plural == (NUMBER[number] > 1), match[0]

    def one(options: Iterable[str]) -> str | None:
        found = [word for word in adjectives if word in set(options)]
        assert len(found) <= 1, match[0]
        return found[0] if found else None

    size, texture = one(SIZE), one(TEXTURE)
    return Claim(
        NUMBER[number],
        SIZE[size] if size else None,
        TEXTURE[texture] if texture else None,
        one(COLOUR),
        shape,
    )


def side_of(a: Group, b: Group) -> set[str]:
    """On which sides of b all of a lies, from the circles that enclose the things."""

    def extent(group: Group, axis: int) -> tuple[float, float]:
        values = [centre[axis] for centre in group.centres]
        return min(values) - group.radius, max(values) + group.radius

    sides = set()
    for axis, (before, after) in enumerate((("left", "right"), ("above", "below"))):
        (a0, a1), (b0, b1) = extent(a, axis), extent(b, axis)
        sides |= {before} if a1 <= b0 else set()
        sides |= {after} if b1 <= a0 else set()
    return sides


def is_true(caption: str, scene: Scene) -> bool:
    matches = list(PHRASE.finditer(caption))
    claims = [parse_phrase(match) for match in matches]
    if len(scene.groups) == 1:
        (group,), (claim,) = scene.groups, claims
        around = caption[: matches[0].start()] + " | " + caption[matches[0].end() :]
        return claim.holds(group) and position_holds(around, group)
    first, second = matches
    link = re.sub(r"^(is|are) ", "", caption[first.end() : second.start()].strip())
    if link == "with":
        after = caption[second.end() :].strip()
        found = re.fullmatch(r"to (?:its|their) (left|right)|(above|below) (?:it|them)", after)
        assert found, caption
        side = OPPOSITE[found[1] or found[2]]
    elif link in ("and", "next to", "beside"):
        side = None
    else:
        (side,) = (s for s, words in RELATION.items() if re.fullmatch(words, link))
    return any(
        claims[0].holds(a) and claims[1].holds(b) and (side is None or side in side_of(a, b))
        for a, b in permutations(scene.groups)
    )


def position_holds(around: str, group: Group) -> bool:
    xs, ys = zip(*group.centres, strict=True)
    checks = {
        r"\bleft\b": max(xs) < 0.48,
        r"\bright\b": min(xs) > 0.52,
        r"\b(top|upper)\b": max(ys) < 0.48,
        r"\b(bottom|lower)\b": min(ys) > 0.52,
        r"\b(centre|middle)\b": abs(np.mean(xs) - 0.5) < 0.2 and abs(np.mean(ys) - 0.5) < 0.2,
    }
    return all(fact for word, fact in checks.items() if re.search(word, around))


Described = list[tuple[Scene, tuple[str, ...]]]


@pytest.fixture(scope="module")
def train() -> Described:
    """5,000 training scenes with 20,000 captions."""
    source = SceneSource(5_000, seed=5)
    return [source.described(i) for i in range(len(source))]


@pytest.mark.property
def test_training_and_validation_never_show_or_say_a_held_out_pair(train: Described):
    val = SceneSource(500, seed=5, split="val")
    held = held_out_pairs()
    said: set[tuple[str | None, str | None]] = set()
    shown: set[tuple[str, str]] = set()
    for scene, captions in [*train, *(val.described(i) for i in range(500))]:
        shown |= {group.pair for group in scene.groups}
        for caption in captions:
            said |= {(c.colour, c.shape) for c in map(parse_phrase, PHRASE.finditer(caption))}
    assert shown == set(all_pairs()) - held
    assert shown <= said
    assert not held & said


@pytest.mark.property
def test_captions_are_true_and_the_first_two_tell_everything(train: Described):
    for scene, captions in train[:2_000]:
        assert len(set(captions)) == 4
        for caption in captions:
            assert is_true(caption, scene), (caption, scene)
        for caption in captions[:2]:
            claims = [parse_phrase(match) for match in PHRASE.finditer(caption)]
            assert len(claims) == len(scene.groups)
            sizes = Counter(c.size for c in claims)
            assert sizes == Counter(None if g.size == "medium" else g.size for g in scene.groups)
            textures = Counter(c.texture or "solid" for c in claims)
            assert textures == Counter(g.texture for g in scene.groups)
            assert all(c.colour and c.shape for c in claims)


@pytest.mark.property
def test_the_caption_check_can_fail(train: Described):
    scene = next(scene for scene, _ in train if scene.relation == "left")
    numbers = ["a", "two", "three", "four"]
    first, second = (
        f"{numbers[g.count - 1]} {g.colour} {noun}"
        for g in scene.groups
        for noun, (shape, plural) in NOUN.items()
        if shape == g.shape and plural == (g.count > 1)
    )
    assert is_true(f"{first} left of {second}", scene)
    assert not is_true(f"{first} right of {second}", scene)
    assert not is_true(f"{first} above {second}", scene)
    assert not is_true(f"{second} left of {first}", scene)
    other = next(c for c in COLOUR if c not in first + second)
    assert not is_true(f"{first.replace(scene.groups[0].colour, other)} and {second}", scene)


@pytest.mark.property
def test_english_is_in_order(train: Described):
    for _, captions in train:
        for caption in captions:
            assert re.fullmatch(r"[a-z]+( [a-z]+)*", caption), caption
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption
            assert not re.search(r"there is (two|three|four)|there are an? (?!pair)", caption)
            # A group's "is" or "are" agrees with its number.
            for match in PHRASE.finditer(caption):
                verb = re.match(r" (is|are) ", caption[match.end() :])
                assert verb is None or (verb[1] == "are") == (NUMBER[match[1]] > 1), caption


@pytest.mark.property
def test_binding_pairs_differ_in_order_alone_and_only_one_is_true(monkeypatch):
    scenes: list[Scene] = []

    def record(scene, image_size):
        scenes.append(scene)
        return np.zeros((image_size, image_size, 3), np.uint8)

    monkeypatch.setattr("bifocal.data.scenes.binding.render", record)
    pairs = list(binding_pairs(400, seed=4))
    for pair, scene in zip(pairs, scenes, strict=True):
        assert pair.caption != pair.wrong_caption
        assert Counter(pair.caption.split()) == Counter(pair.wrong_caption.split())
        assert is_true(pair.caption, scene), pair.caption
        assert not is_true(pair.wrong_caption, scene), pair.wrong_caption
        for match in PHRASE.finditer(pair.wrong_caption):
            claim = parse_phrase(match)
            assert (claim.colour, claim.shape) not in held_out_pairs()
    assert Counter(pair.kind for pair in pairs) == {"relation": 200, "attribute": 200}
