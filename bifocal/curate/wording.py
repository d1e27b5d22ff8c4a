"""What captions are made of: lengths, scripts, repetitions, and those that describe nothing.

Scripts, not languages: they are read off the letters, without a model and without doubt. Knows
texts; knows nothing of pictures.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

import regex

from bifocal.inputs.tokenizer import Tokenizer

PHRASE = 4
"""Words of a phrase."""
KEPT = 1_000_000
"""Captions or phrases that are counted at a time. Beyond, those seen once are forgotten: a count is
then the least that it can be."""
EXAMPLES = 6

FLAWS = {
    "file name": regex.compile(
        r"^\S+\.(jpe?g|png|gif|webp|bmp|tiff?|heic|raw)$|"
        r"\b(IMG|DSC[NF_]?|PICT|DCIM|MVI|GOPR|PXL|Screen ?shot)[-_ ]?\d{3,}",
        regex.IGNORECASE,
    ),
    "web address": regex.compile(r"https?://|\bwww\.\w", regex.IGNORECASE),
    "markup": regex.compile(r"</?[a-z][^<>]*>|&(#\d+|[a-z]{2,8});", regex.IGNORECASE),
    "no letters": regex.compile(r"^\P{L}*$"),
}
"""Captions that say nothing of a picture, or more than what it shows."""

SCRIPTS = [
    "Latin",
    "Cyrillic",
    "Greek",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Bengali",
    "Tamil",
    "Telugu",
    "Gujarati",
    "Gurmukhi",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Thai",
    "Lao",
    "Khmer",
    "Myanmar",
    "Tibetan",
    "Georgian",
    "Armenian",
    "Ethiopic",
    "Han",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Mongolian",
]
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in SCRIPTS))
_JAPANESE = ("Hiragana", "Katakana")


@dataclass(slots=True)
class Wording:
    """Counts over captions; filled by `add`.

    Attributes:
        tokenizer: measures captions against its context; None leaves that out.
        captions: how many.
        wordless: samples without a caption, which have a label alone.
        words, characters, tokens: captions by length.
        cut: captions longer than the context.
        scripts: captions by the script of most of their letters.
        texts: samples by caption, lower-cased.
        phrases: captions by the phrases in them.
        flaws: captions by what is wrong with them.
        examples: positions and captions of some, by flaw.
    """

    tokenizer: Tokenizer | None = None
    captions: int = 0
    wordless: int = 0
    words: Counter[int] = field(default_factory=Counter)
    characters: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    scripts: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)
    flaws: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def add(self, position: int, captions: tuple[str, ...]) -> None:
        """Count the captions of one sample."""
        self.wordless += not captions
        for caption in captions:
            self._measure(position, caption)
        # Each once, and in an order that is the same for every process.
        self.texts.update(dict.fromkeys(" ".join(c.lower().split()) for c in captions).keys())
        for counter in (self.texts, self.phrases):
            if len(counter) > KEPT:
                _forget(counter)

    def repeated(self, count: int) -> list[tuple[str, int]]:
        """Return the captions that most samples share, at least two each."""
        return [(text, n) for text, n in self.texts.most_common(count) if n > 1]

    def common_phrases(self, count: int) -> list[tuple[str, int]]:
        """Return the phrases that most captions share, at least two each."""
        return [(text, n) for text, n in self.phrases.most_common(count) if n > 1]

    def _measure(self, position: int, caption: str) -> None:
        words = caption.lower().split()
        self.captions += 1
        self.words[len(words)] += 1
        self.characters[len(caption)] += 1
        self.scripts[script(caption)] += 1
        phrases = (" ".join(words[n : n + PHRASE]) for n in range(len(words) - PHRASE + 1))
        self.phrases.update(dict.fromkeys(phrases).keys())
        for flaw, pattern in FLAWS.items():
            if pattern.search(caption):
                self._blame(flaw, position, caption)
        if self.tokenizer is not None:
            length = len(self.tokenizer.encode(caption)) + 2
            self.tokens[length] += 1
            if length > self.tokenizer.context_length:
                self.cut += 1
                self._example("longer than the context", position, caption)

    def _blame(self, flaw: str, position: int, caption: str) -> None:
        self.flaws[flaw] += 1
        self._example(flaw, position, caption)

    def _example(self, flaw: str, position: int, caption: str) -> None:
        kept = self.examples.setdefault(flaw, [])
        if len(kept) < EXAMPLES:
            kept.append((position, caption))


def script(text: str) -> str:
    """Return the Unicode script of most letters of a text; "none" if it has no letters.

    A text with kana is Japanese, however many of its characters are Han.
    """
    if text.isascii():
        return "Latin" if re.search("[A-Za-z]", text) else "none"
    counts = Counter(_script_of(character) for character in text if character.isalpha())
    if any(name in counts for name in _JAPANESE):
        return "Japanese"
    return counts.most_common(1)[0][0] if counts else "none"


@lru_cache(maxsize=1 << 16)
def _script_of(character: str) -> str:
    found = _SCRIPT.match(character)
    return found.lastgroup or "other" if found else "other"


def _forget(counter: Counter[str]) -> None:
    for text in [text for text, count in counter.items() if count == 1]:
        del counter[text]
