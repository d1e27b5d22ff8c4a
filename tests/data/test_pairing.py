"""Members to samples: repeated names, scattered parts, halves; and nothing lost in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data.archive import Member
from bifocal.data.pairing import (
    DUPLICATE,
    MAX_SIZE,
    NO_PICTURE,
    NO_TEXT,
    PICTURES,
    TEXTS,
    TOO_LARGE,
    pair,
    split_name,
)


def archive(text: str) -> list[Member]:
    """Members by name, each at its place in the text."""
    return [Member(name, n, 1) for n, name in enumerate(text.split())]


def paired(text: str) -> tuple[dict[str, list[int]], dict[str, int]]:
    samples, losses = pair(archive(text))
    found = {key: [member.offset for member in parts.values()] for key, parts in samples}
    assert len(found) == len(samples)
    return found, dict(losses)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("text", "samples", "losses"),
    [
        ("a.jpg a.txt b.jpg b.txt", {"a": [0, 1], "b": [2, 3]}, {}),
        ("a.jpg b.jpg a.txt b.txt", {"a": [0, 2], "b": [1, 3]}, {}),
        ("a.jpg b.txt c.jpg c.txt", {"c": [2, 3]}, {NO_TEXT: 1, NO_PICTURE: 1}),
        # The same name twice: the first whole pair, and never halves of two.
        ("a.jpg a.txt a.jpg a.txt", {"a": [0, 1]}, {DUPLICATE: 1}),
        ("a.jpg a.txt b.jpg b.txt a.jpg a.txt", {"a": [0, 1], "b": [2, 3]}, {DUPLICATE: 1}),
        ("a.jpg b.jpg b.txt a.jpg a.txt", {"a": [3, 4], "b": [1, 2]}, {DUPLICATE: 1}),
        ("a.txt b.jpg b.txt a.jpg a.txt", {"a": [3, 4], "b": [1, 2]}, {DUPLICATE: 1}),
        ("a.jpg a.jpg a.txt", {"a": [1, 2]}, {DUPLICATE: 1}),
        ("a.JPG a.jpg a.txt", {"a": [1, 2]}, {DUPLICATE: 1}),
        ("a.jpg b.jpg b.txt a.jpg", {"b": [1, 2]}, {DUPLICATE: 1, NO_TEXT: 1}),
        # What has another suffix, or is hidden, belongs to no sample and parts none.
        ("a.jpg a.seg.png a.npy x a.txt", {"a": [0, 4]}, {}),
        (".jpg ._a.jpg .a.txt d/.b.jpg", {}, {}),
        ("d/a.b.jpg d/a.txt", {}, {NO_PICTURE: 1}),
    ],
)
def test_samples_of_an_archive(text, samples, losses):
    assert paired(text) == (samples, losses)


@pytest.mark.golden
def test_a_key_ends_at_the_first_dot_of_the_last_part():
    assert split_name("d.1/a.JPG") == ("d.1/a", "jpg")
    assert split_name("./a.b.c") == ("./a", "b.c")
    assert split_name("a") == ("a", "")
    assert split_name("d/.a.jpg") == ("", "")


@pytest.mark.behaviour
def test_a_member_too_large_to_read_is_counted():
    members = [Member("a.jpg", 0, MAX_SIZE + 1), Member("a.txt", 9, 3)]
    samples, losses = pair(members)
    assert not samples
    assert losses == {TOO_LARGE: 1, NO_PICTURE: 1}
    assert len(pair([Member("a.jpg", 0, MAX_SIZE), members[1]])[0]) == 1


names = st.builds("{}.{}".format, st.sampled_from("abcd"), st.sampled_from(["jpg", "png", "txt"]))


@pytest.mark.property
@given(found=st.lists(names, max_size=14))
def test_parts_of_a_sample_are_neighbours_or_the_only_ones_of_their_name(found):
    members = [Member(name, n, 1) for n, name in enumerate(found)]
    samples, losses = pair(members)
    for key, parts in samples:
        assert parts.keys() & set(PICTURES)
        assert parts.keys() & set(TEXTS)
        assert all(member.name == f"{key}.{suffix}" for suffix, member in parts.items())
        places = sorted(member.offset for member in parts.values())
        between = {found[n][0] for n in range(places[0], places[-1] + 1)}
        alone = all(found.count(member.name) == 1 for member in parts.values())
        assert between == {key} or alone
    keys = {name[0] for name in found}
    assert bool(losses) or len(samples) == len(keys)
