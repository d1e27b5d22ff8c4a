"""Data looked over: what is damaged, what stands twice, what captions say, how large pictures are.

Knows what a fault is and what is a mere observation; shows nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bifocal.curate.crew import Joined, Opening, in_order
from bifocal.curate.duplicates import KINDS, Duplicates, find_duplicates
from bifocal.curate.looks import Damage, Gathering, Look, look_over
from bifocal.curate.wording import FLAWS, Wording
from bifocal.data.perceptual import NEAR
from bifocal.errors import DataError
from bifocal.inputs.tokenizer import Tokenizer

Told = Callable[[int, int, int], None]
"""Takes the samples looked at, the faults among them so far, and the samples of all."""
LISTED = 10_000
"""Duplicates that the figures list one by one."""
SHOWN = 20


@dataclass(frozen=True)
class Checkup:
    """What was found.

    Attributes:
        opening: the source that was looked over, and those it was compared with.
        joined: the same, open.
        looked: samples looked at, of each source.
        damage: what cannot be read, by place and reason, of the first source.
        duplicates: among the pictures of all sources.
        wording: of the first source's captions.
        distance: bits in which the looks of near duplicates may differ.
    """

    opening: Opening
    joined: Joined
    looked: tuple[int, ...]
    damage: Counter[tuple[str, str]]
    duplicates: Duplicates
    wording: Wording
    distance: int

    @property
    def faults(self) -> dict[str, int]:
        """How many faults of each kind were found; zeros included."""
        within = self.duplicates.within(0)
        rows = {"damaged or left out": self.damage.total()}
        rows |= {f"{kind} as another": within[kind] for kind in KINDS[:2]}
        rows["nearly as another"] = within["near"]
        for n, spec in enumerate(self.opening.specs[1:], 1):
            rows[f"also in {spec}"] = sum(self.duplicates.across(0, n).values())
        if self.wording.captions:
            rows |= {f"caption: {flaw}": self.wording.flaws[flaw] for flaw in FLAWS}
        if self.wording.captions and self.wording.tokenizer is not None:
            rows["caption: longer than the context"] = self.wording.cut
        return rows

    @property
    def is_clean(self) -> bool:
        """Whether no fault was found."""
        return not any(self.faults.values())

    def figures(self) -> dict[str, object]:
        """Return everything as plain data."""
        words = self.wording
        pictures = self.duplicates.pictures
        mine = pictures.splits == 0
        short, long = pictures.shapes[mine].min(axis=1), pictures.shapes[mine].max(axis=1)
        others = range(1, len(self.opening.specs))
        return {
            "format": "bifocal.check/1",
            "source": self.opening.specs[0],
            "against": list(self.opening.specs[1:]),
            "samples": [len(source) for source in self.joined.sources],
            "looked": list(self.looked),
            "clean": self.is_clean,
            "faults": self.faults,
            "damage": [
                {"place": place, "reason": reason, "count": count}
                for (place, reason), count in self.damage.most_common()
            ],
            "duplicates": {
                "within": self.duplicates.within(0),
                "across": {self.opening.specs[n]: self.duplicates.across(0, n) for n in others},
                "distance": self.distance,
                "without_texture": self.duplicates.flat,
                "listed": self._listed(),
            },
            "captions": {
                "count": words.captions,
                "samples_without": words.wordless,
                "flaws": dict(words.flaws),
                "scripts": dict(words.scripts.most_common()),
                "repeated": words.repeated(SHOWN),
                "phrases": words.common_phrases(SHOWN),
                "words": _ascending(words.words),
                "characters": _ascending(words.characters),
                "tokens": _ascending(words.tokens),
                "cut": words.cut,
            },
            "pictures": {
                "shorter_side": _ascending(Counter(short.tolist())),
                "longer_side": _ascending(Counter(long.tolist())),
                "bytes": int(pictures.sizes[mine].sum()),
            },
        }

    def _listed(self) -> list[dict[str, object]]:
        rows = []
        for twins, _ in zip(self.duplicates.twins(), range(LISTED), strict=False):
            rows.append(
                {
                    "kind": twins.kind,
                    "bits": twins.distance,
                    "pictures": [
                        {"place": self.place(n), "key": self.duplicates.pictures.keys[n]}
                        for n in (twins.first, twins.second)
                    ],
                }
            )
        return rows

    def place(self, picture: int) -> str:
        """Return where a picture lies, by its number among the duplicates' pictures."""
        position = int(self.duplicates.pictures.positions[picture])
        split = self.joined.split(position)
        spec = f"{self.opening.specs[split]}: " if split else ""
        return spec + self.joined.place(position)


def check(
    opening: Opening,
    *,
    tokenizer: Tokenizer | None = None,
    limit: int = 0,
    distance: int = NEAR,
    workers: int = 1,
    told: Told | None = None,
) -> Checkup:
    """Look over the first source of `opening`, and for its pictures in the others.

    Args:
        opening: the sources.
        tokenizer: tells which captions its context cuts.
        limit: samples of each source that are looked at, evenly spread; 0 for all.
        distance: bits in which the looks of near duplicates may differ.
        workers: processes that decode.
        told: hears how far it is.

    Raises:
        ConfigError, DataError: a source cannot be opened, or nothing in it can be read.
    """
    joined = opening.open()
    starts = (0, *joined.ends)
    parts = [_spread(len(source), limit) + starts[n] for n, source in enumerate(joined.sources)]
    positions = np.concatenate(parts)
    damage, looks, wording = joined.losses(0), Gathering(), Wording(tokenizer)
    found = in_order(look_over, opening, joined, positions, workers)
    for count, look in enumerate(found, 1):
        match look:
            case Damage(position, place, reason):
                if joined.split(position) == 0:
                    damage[place, reason] += 1
            case Look():
                split = joined.split(look.position)
                looks.add(look, split)
                if split == 0:
                    wording.add(look.position, look.captions)
        if told:
            told(count, damage.total(), len(positions))
    pictures = looks.pictures()
    if not (pictures.splits == 0).any():
        (place, reason), times = damage.most_common(1)[0]
        raise DataError(
            f"nothing in {opening.specs[0]} can be read: {times}x {reason} in {place}: see whether "
            "the files are what they should be"
        )
    duplicates = find_duplicates(pictures, distance)
    return Checkup(opening, joined, tuple(map(len, parts)), damage, duplicates, wording, distance)


def _spread(samples: int, limit: int) -> np.ndarray:
    if not limit or limit >= samples:
        return np.arange(samples)
    return np.linspace(0, samples - 1, limit).round().astype(np.int64)


def _ascending(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}
