"""Say a scene in plain English: noun phrases, relations, positions, and frames around them.

Knows: words and their order. Must not know: pixels, seeds or splits. Every caption is true of its
scene; captions of one scene differ in wording and in how much they tell, so that a text tower
must read order and binding and not just spot words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bifocal.data.scenes.draws import Draws
from bifocal.data.scenes.scene import Group, Scene
from bifocal.data.scenes.vocabulary import OPPOSITE, SHAPES

NUMBERS = {2: "two", 3: "three", 4: "four"}

# All rows of one table are equally long, so that one number chooses a wording for any of them.
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
TEXTURE_WORDS = {
    "solid": ("solid", "plain"),
    "striped": ("striped", "striped"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "checked"),
}
RELATION_WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath"),
}
SIDE_WORDS = {  # "a circle with two stars to its left" / "above it"
    "left": ("to its left", "to their left"),
    "right": ("to its right", "to their right"),
    "above": ("above it", "above them"),
    "below": ("below it", "below them"),
}
POSITION_WORDS = {
    "top left": ("in the top left corner", "in the upper left corner", "at the top left"),
    "top right": ("in the top right corner", "in the upper right corner", "at the top right"),
    "bottom left": ("in the bottom left corner", "in the lower left corner", "at the bottom left"),
    "bottom right": (
        "in the bottom right corner",
        "in the lower right corner",
        "at the bottom right",
    ),
    "centre": ("in the centre", "in the middle", "at the centre"),
    "left": ("on the left", "on the left side", "at the left"),
    "right": ("on the right", "on the right side", "at the right"),
    "top": ("at the top", "near the top", "in the upper part"),
    "bottom": ("at the bottom", "near the bottom", "in the lower part"),
}
FRAMES = (
    "{}",
    "a picture of {}",
    "there {be} {}",
    "an image of {}",
    "the picture shows {}",
    "a drawing of {}",
    "we can see {}",
    "a simple picture of {}",
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How a noun phrase is put, apart from what it is about.

    Attributes:
        synonym: chooses among words of one meaning.
        texture_last: "red striped circle" and not "striped red circle".
        pair_of: "a pair of" for two.
        say_size, say_texture, say_colour, say_shape: which attributes are told.
        say_solid: also tells that a thing has no texture.
    """

    synonym: int = 0
    texture_last: bool = False
    pair_of: bool = False
    say_size: bool = True
    say_texture: bool = True
    say_colour: bool = True
    say_shape: bool = True
    say_solid: bool = False


BRIEF = Wording(say_size=False, say_texture=False)
"""Number, colour and shape, and nothing else."""


def with_article(phrase: str) -> str:
    """Return the phrase after "a" or "an", whichever its first letter asks for."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def noun_phrase(group: Group, wording: Wording) -> str:
    """Return for instance "a small red circle", "three dotted stars" or "two blue shapes"."""
    words: list[str] = []
    if wording.say_size and group.size in SIZE_WORDS:
        synonyms = SIZE_WORDS[group.size]
        words.append(synonyms[wording.synonym % len(synonyms)])
    if wording.say_colour:
        words.append(group.colour)
    if wording.say_texture and (group.texture != "solid" or wording.say_solid):
        texture = TEXTURE_WORDS[group.texture][wording.synonym % 2]
        words.insert(len(words) - (wording.say_colour and not wording.texture_last), texture)
    shape = group.shape if wording.say_shape else "shape"
    if group.count == 1:
        return with_article(" ".join((*words, shape)))
    words.append(SHAPES[shape] if wording.say_shape else "shapes")
    number = "a pair of" if group.count == 2 and wording.pair_of else NUMBERS[group.count]
    return " ".join((number, *words))


def related(first: str, second: str, relation: str, synonym: int) -> str:
    """Return for instance "a red circle to the left of two blue stars"."""
    return f"{first} {RELATION_WORDS[relation][synonym]} {second}"


def framed(frame: str, content: str, count: int) -> str:
    """Put content that begins with `count` things into a frame."""
    return frame.format(content, be="is" if count == 1 else "are")


def _wording(draws: Draws) -> Wording:
    """Return a wording that tells everything."""
    return Wording(
        synonym=draws.below(12),
        texture_last=draws.chance(0.25),
        pair_of=draws.chance(0.2),
        say_solid=draws.chance(0.15),
    )


def _shorter(draws: Draws, vague: tuple[bool, bool]) -> Wording:
    """Return a wording that leaves things out, the shape or the colour only where `vague` lets.

    Most tell number, colour and shape alone, as the names of classes do; some only one of the
    two, which is how a colour and a shape come to have a meaning of their own.
    """
    dropped = draws.uniform(0.0, 1.0)
    if draws.chance(0.7):
        return replace(
            BRIEF,
            synonym=draws.below(12),
            say_shape=not (vague[0] and dropped < 0.1),
            say_colour=not (vague[1] and dropped > 0.75),
        )
    told = draws.below(4)
    return Wording(
        synonym=draws.below(12),
        texture_last=draws.chance(0.25),
        say_size=told == 1,
        say_texture=told == 2,
        say_shape=not (vague[0] and dropped < 0.12),
        say_colour=not (vague[1] and dropped > 0.88),
    )


def _full_single(draws: Draws, scene: Scene, frame: str) -> str:
    (group,) = scene.groups
    phrase = noun_phrase(group, _wording(draws))
    if scene.position is None:
        return framed(frame, phrase, group.count)
    place = draws.choice(POSITION_WORDS[scene.position])
    be = "is" if group.count == 1 else "are"
    style = draws.uniform(0.0, 1.0)
    if frame == "{}" and style < 0.4:
        return f"{phrase} {be} {place}"
    if frame == "there {be} {}" and style < 0.4:
        return f"{place} there {be} {phrase}"
    return framed(frame, f"{phrase} {place}", group.count)


def _full_pair(draws: Draws, scene: Scene, frame: str) -> str:
    assert scene.relation is not None
    first, second = scene.groups
    relation = scene.relation
    if draws.chance(0.5):
        first, second, relation = second, first, OPPOSITE[relation]
    a, b = noun_phrase(first, _wording(draws)), noun_phrase(second, _wording(draws))
    style = draws.uniform(0.0, 1.0)
    if style < 0.15:
        side = SIDE_WORDS[OPPOSITE[relation]][first.count > 1]
        return framed(frame, f"{a} with {b} {side}", first.count)
    synonym = draws.below(3)
    if frame == "{}" and style < 0.5:
        a = f"{a} {'is' if first.count == 1 else 'are'}"
    return framed(frame, related(a, b, relation, synonym), first.count)


def _short_single(draws: Draws, scene: Scene, frame: str) -> str:
    (group,) = scene.groups
    phrase = noun_phrase(group, _shorter(draws, (True, True)))
    if scene.position is not None and draws.chance(0.3):
        phrase = f"{phrase} {draws.choice(POSITION_WORDS[scene.position])}"
    return framed(frame, phrase, group.count)


def _short_pair(draws: Draws, scene: Scene, frame: str) -> str:
    assert scene.relation is not None
    first, second = scene.groups
    relation = scene.relation
    if draws.chance(0.5):
        first, second, relation = second, first, OPPOSITE[relation]
    # An attribute is left out only where the other one still tells the groups apart.
    vague = first.colour != second.colour, first.shape != second.shape
    wording = _shorter(draws, vague)
    a, b = noun_phrase(first, wording), noun_phrase(second, wording)
    style = draws.uniform(0.0, 1.0)
    if style < 0.4:
        return framed(frame, f"{a} and {b}", first.count)
    if style < 0.6 and relation in ("left", "right"):
        return framed(frame, f"{a} {'next to' if style < 0.5 else 'beside'} {b}", first.count)
    return framed(frame, related(a, b, relation, draws.below(3)), first.count)


def captions(draws: Draws, scene: Scene) -> tuple[str, ...]:
    """Return four different true captions; the first two tell everything, the others less.

    "Everything" is number, size unless medium, texture unless solid, colour, shape, and the
    position or the relation where the scene has one.
    """
    full, short = (
        (_full_single, _short_single) if len(scene.groups) == 1 else (_full_pair, _short_pair)
    )
    # An odd stride through eight frames visits four different ones.
    start, stride = draws.below(len(FRAMES)), 1 + 2 * draws.below(4)
    frames = [FRAMES[(start + step * stride) % len(FRAMES)] for step in range(4)]
    return tuple(
        say(draws, scene, frame)
        for say, frame in zip((full, full, short, short), frames, strict=True)
    )
