"""Captions that are damaged, hostile or endless: a counted reason, or a bounded text."""

from __future__ import annotations

import contextlib
import io
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data import captions
from bifocal.data.captions import MAX_CHARACTERS, CaptionReader, stripped
from bifocal.errors import DataError
from bifocal.inputs.tokenizer import Tokenizer

TOKENIZER = Tokenizer([("a", "b</w>")], context_length=77)


def read(**companions: bytes) -> tuple[str, ...]:
    return CaptionReader().read(companions)[0]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a cat\n", "a cat"),
        ("\ufeffa cat".encode(), "a cat"),
        (b"a\0cat\0", "a cat"),
        ("naïve 猫 😀".encode(), "naïve 猫 😀"),
    ],
)
def test_a_text_is_read_as_it_is(raw, text):
    assert read(txt=raw) == (text,)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"caf\xe9", "caption is not UTF-8"),
        ("a cat".encode("utf-16"), "caption is not UTF-8"),
        (b"a\xc0\x80cat", "caption is not UTF-8"),
        (b"\xed\xa0\x80", "caption is not UTF-8"),
        (b"", "no caption"),
        (b" \0\r\n\t", "no caption"),
    ],
)
def test_a_text_that_is_none_has_a_fixed_reason(raw, reason):
    with pytest.raises(DataError, match=f"^{reason}$"):
        read(txt=raw)
    # A caption that can be read elsewhere is not lost with it.
    assert read(txt=raw, json=b'{"captions": ["a cat"]}') == ("a cat",)


@pytest.mark.golden
def test_half_a_surrogate_pair_becomes_a_character_that_can_be_encoded():
    assert read(json=rb'{"caption": "\ud800 cat"}') == ("\ufffd cat",)
    assert read(json=rb'{"caption": "\ud83d\ude00 cat"}') == ("😀 cat",)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "ab " * 400_000,
        "&" * 1_000_000,
        "é" * 500_000,
        "a" + "\u0301" * 500_000,
        "ab" + " " * 1_000_000 + "ab",
        "\u200b" * 1_000_000 + "ab",
    ],
    ids=["word", "words", "entities", "accents", "marks", "spaces", "invisible"],
)
def test_a_megabyte_is_cut_before_it_stalls_the_tokenizer(text):
    before = time.process_time()
    for (caption,) in (read(txt=text.encode()), read(json=json.dumps({"caption": text}).encode())):
        assert 0 < len(caption) <= MAX_CHARACTERS
        assert len(TOKENIZER.encode_caption(caption)[0]) <= 77
    assert time.process_time() - before < 10


@pytest.mark.property
@given(text=st.text(max_size=300))
def test_a_caption_of_ordinary_length_only_loses_what_stands_around_it(text):
    found = stripped(text)
    expected = text.replace("\0", " ").strip()
    assert found == ((expected,) if expected else ())


@pytest.mark.property
@given(raw=st.binary(max_size=60), table=st.binary(max_size=60), label=st.binary(max_size=5))
def test_any_bytes_give_captions_or_a_data_error(raw, table, label):
    for companions in ({"txt": raw}, {"json": table}, {"cls": label, "txt": raw, "json": table}):
        try:
            captions = CaptionReader(("cat", "dog")).read(companions)[0]
        except DataError:
            continue
        for caption in captions:
            TOKENIZER.encode_caption(caption)


SEVERAL = CaptionReader(("ant", "bee", "cow"), multi_label=True)


def saved(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(array))
    return file.getvalue()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        (b"0 2", (0, 2)),
        (b"2,0, 2\n", (0, 2)),
        (b"1\n0\n", (0, 1)),
        (b"1", (1,)),
        (b"", ()),
    ],
)
def test_several_labels_are_numbers_with_anything_between(raw, labels):
    assert SEVERAL.labels({"cls": raw}) == labels
    # Such a picture has no one label, and need not be described.
    assert SEVERAL.read({"cls": raw}) == ((), None)


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32"])
def test_an_array_has_a_number_for_every_class(kind):
    assert SEVERAL.labels({"npy": saved(np.array([1, 0, 1], kind))}) == (0, 2)
    assert SEVERAL.labels({"npy": saved(np.array([0, 0, 0], kind)), "cls": b"1"}) == ()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("companions", "reason"),
    [
        ({"cls": b"0 3"}, "label without a class name"),
        ({"cls": b"-1"}, "label without a class name"),
        ({"cls": b"ant bee"}, "a label is not a number"),
        ({"cls": b"1_0"}, "a label is not a number"),
        ({"cls": b"0 " + b"9" * 5000}, "a label is not a number"),
        ({"txt": b"an ant"}, "no labels"),
        ({"npy": b"\x93NUMPY"}, "damaged array of labels"),
        ({"npy": saved([1, 0])}, "array of labels without one number a class"),
        ({"npy": saved([[1, 0, 1]])}, "array of labels without one number a class"),
        ({"npy": saved(["a", "b", "c"])}, "array of labels without one number a class"),
        ({"npy": saved([{}, 1, 2])}, "array of labels without one number a class"),
        ({"npy": saved([1.0, np.nan, 0.0])}, "array of labels without one number a class"),
        ({"npy": saved([1, 0, 1])[:-1]}, "damaged array of labels"),
        ({"npy": saved([1, 0, 1]) + bytes(8)}, "damaged array of labels"),
        ({"npy": b"PK\x03\x04" + bytes(60)}, "damaged array of labels"),
        ({"npy": b""}, "damaged array of labels"),
        ({"npy": saved([1, 0, 1]).replace(b"(3,)", b"(9**9**9,)")}, "damaged array of labels"),
    ],
)
def test_labels_that_are_none_have_a_fixed_reason(companions, reason):
    with pytest.raises(DataError, match=f"^{reason}$"):
        SEVERAL.labels(companions)


@pytest.mark.property
@given(st.integers(0, 200), st.binary(min_size=1, max_size=6))
def test_an_array_that_is_damaged_anywhere_is_labels_or_a_data_error(place, damage):
    raw = saved(np.array([1, 0, 1]))
    raw = raw[: place % len(raw)] + damage + raw[place % len(raw) + len(damage) :]
    with contextlib.suppress(DataError):
        assert set(SEVERAL.labels({"npy": raw})) <= {0, 1, 2}


@pytest.mark.behaviour
def test_a_parser_that_other_threads_have_confused_is_asked_again(monkeypatch):
    file = io.BytesIO()
    np.save(file, np.array([0, 1, 0, 1]))
    read, faults = captions._HEADERS[1, 0], [SystemError("AST constructor")] * 3

    def confused(file: io.BytesIO) -> object:
        found = read(file)
        if faults:
            raise faults.pop()
        return found

    monkeypatch.setitem(captions._HEADERS, (1, 0), confused)
    assert captions._of_array(file.getvalue(), 4) == (1, 3)
    assert not faults
