"""Captions that describe nothing, and the scripts that captions are written in."""

from __future__ import annotations

import pytest

from bifocal.curate import wording
from bifocal.curate.wording import FLAWS, Wording, script


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("caption", "flaws"),
    [
        ("a dog runs on the beach .", set()),
        ("IMG_1234", {"file name"}),
        ("dsc00012 at the lake", {"file name"}),
        ("Screenshot 2024", {"file name"}),
        ("holiday-03.JPEG", {"file name"}),
        ("a sign that says 24.jpg hangs there", set()),
        ("https://example.org/a.png", {"file name", "web address"}),
        ("photo from www.example.org", {"web address"}),
        ("a man &amp; a <i>dog</i>", {"markup"}),
        ("5 < 6 and 7 > 3", set()),
        ("R&B band; on stage", set()),
        ("2019/03/04", {"no letters"}),
        ("…", {"no letters"}),
        ("犬", set()),
    ],
)
def test_flaws(caption, flaws):
    assert {name for name, pattern in FLAWS.items() if pattern.search(caption)} == flaws


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog, 3 years old", "Latin"),
        ("Ein Hündchen läuft", "Latin"),
        ("собака и dog", "Cyrillic"),
        ("狗在跑", "Han"),
        ("犬が走る", "Japanese"),
        ("개가 달린다", "Hangul"),
        ("كلب يجري", "Arabic"),
        ("कुत्ता", "Devanagari"),
        ("ᚠᚢᚦ", "other"),
        ("123 🐕", "none"),
        ("", "none"),
    ],
)
def test_scripts(text, expected):
    assert script(text) == expected


@pytest.mark.behaviour
def test_repetitions_are_counted_once_a_sample():
    words = Wording()
    words.add(0, ("A dog in the park", "a  DOG in the park"))
    words.add(1, ("a dog in the park",))
    words.add(2, ("a cat",))
    words.add(3, ())
    assert words.repeated(5) == [("a dog in the park", 2)]
    assert words.common_phrases(1) == [("a dog in the", 3)]
    assert (words.captions, words.wordless) == (4, 1)
    assert dict(words.words) == {5: 3, 2: 1}


@pytest.mark.behaviour
def test_memory_is_bounded_and_counts_stay_true_of_what_is_frequent(monkeypatch):
    monkeypatch.setattr(wording, "KEPT", 50)
    words = Wording()
    for n in range(1000):
        words.add(n, ("the same again and again",) if n % 3 == 0 else (f"number {n} of many",))
    assert len(words.texts) <= 50
    assert words.repeated(1) == [("the same again and again", 334)]
