"""Byte-level BPE: nothing is lost, ends are where they belong, and a vocabulary is what it says."""

from __future__ import annotations

import gzip
import html
import json
import re

import ftfy
import pytest
import regex
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.errors import TokenizerError
from bifocal.inputs import tokenizer as module
from bifocal.inputs.tokenizer import (
    BASE_SIZE,
    END,
    START,
    Tokenizer,
    byte_characters,
    clean,
    pad,
    words,
)
from bifocal.inputs.vocabulary import train_tokenizer

CAPTIONS = [
    "a small red triangle left of two striped circles",
    "two striped circles and a small blue square",
    "ein kleines rotes Dreieck über zwei Kreisen",
    "小さな赤い三角 二つの円 小さな赤い円",
    "don't they're we'll 1234 !!! ...",
] * 3
BYTES = Tokenizer([], 77)
LEARNED = train_tokenizer(CAPTIONS, 700, 77)

ordinary = st.text(st.characters(exclude_categories=("Cs",)), max_size=60).filter(
    lambda text: "<|" not in clean(text)
)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)


@pytest.mark.property
@pytest.mark.parametrize("tokenizer", [BYTES, LEARNED], ids=["bytes", "learned"])
@given(text=ordinary)
def test_decoding_returns_the_words(tokenizer, text):
    found = tokenizer.decode(tokenizer.encode(text))
    assert found.split() == " ".join(words(clean(text))).split()


@pytest.mark.property
@given(text=ordinary)
def test_words_lose_nothing_but_spaces(text):
    kept = "".join(words(clean(text)))
    assert kept == re.sub(r"\s", "", clean(text), flags=re.UNICODE)


PATTERN = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


@pytest.mark.property
@given(text=st.one_of(printable, st.text("a's<|>T1& \n", max_size=30)))
def test_printable_ascii_is_read_as_any_other_text(text):
    # Spelled out here after openai/CLIP, clip/simple_tokenizer.py: no path for plain text.
    plain = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    plain = regex.sub(r"\s+", " ", plain).strip().lower()
    assert clean(text) == plain
    assert words(plain) == PATTERN.findall(plain)
    assert LEARNED.encode(text) == [
        number for word in PATTERN.findall(plain) for number in LEARNED.encode(word)
    ]


@pytest.mark.golden
def test_text_is_repaired_and_lowered():
    # Origin: openai/CLIP, clip/simple_tokenizer.py: basic_clean, then whitespace_clean, lower.
    assert clean("  A\tRed \n Fox ") == "a red fox"
    assert clean("caf&eacute; &amp;amp; bar") == "café & bar"
    assert clean("schÃ¶n") == "schön"
    assert words("don't stop, 42x!!") == ["don", "'t", "stop", ",", "4", "2", "x", "!!"]


@pytest.mark.golden
def test_ids_are_bytes_then_final_bytes_then_merges_then_ends():
    # Origin: openai/CLIP, clip/simple_tokenizer.py, SimpleTokenizer.__init__.
    merges = [("a", "b</w>"), ("a", "b")]
    tokenizer = Tokenizer(merges, 5)
    assert tokenizer.vocab_size == BASE_SIZE + 2 == 516
    assert tokenizer.ids["!"] == 0
    assert tokenizer.ids["a"] == ord("a") - ord("!")
    assert tokenizer.ids["a</w>"] == 256 + ord("a") - ord("!")
    assert (tokenizer.ids["ab</w>"], tokenizer.ids["ab"]) == (512, 513)
    assert (tokenizer.start, tokenizer.end) == (514, 515)
    assert tokenizer.encode("ab") == [512]
    assert tokenizer.encode("abc") == [513, tokenizer.ids["c</w>"]]
    assert len(set(byte_characters())) == 256


@pytest.mark.property
@given(text=ordinary, context=st.integers(3, 20))
def test_a_caption_begins_and_ends_and_says_when_it_was_cut(text, context):
    tokenizer = Tokenizer(LEARNED.merges, context)
    row, truncated = tokenizer.encode_caption(text)
    ids = tokenizer.encode(text)
    assert row[0] == tokenizer.start
    assert row[-1] == tokenizer.end == max(tokenizer.ids.values())
    assert row.count(tokenizer.end) == 1
    assert row[1:-1] == ids[: context - 2]
    assert truncated == (len(ids) > context - 2)
    assert len(row) <= context
    padded = tokenizer(text)
    assert padded.shape == (1, context)
    assert padded[0].argmax() == len(row) - 1


@pytest.mark.property
def test_forgotten_words_are_merged_again(monkeypatch):
    monkeypatch.setattr(module, "_CACHE_LIMIT", 4)
    forgetful = Tokenizer(LEARNED.merges)
    for caption in CAPTIONS * 2:
        assert forgetful.encode(caption) == Tokenizer(LEARNED.merges).encode(caption)


@pytest.mark.property
def test_a_learned_vocabulary_is_deterministic_and_shortens():
    # Every word occurs three times, so that all merges tie.
    for _ in range(5):
        assert train_tokenizer(iter(CAPTIONS), 700, 77).merges == LEARNED.merges
    assert len(LEARNED.encode(CAPTIONS[0])) < len(BYTES.encode(CAPTIONS[0])) / 2
    assert LEARNED.encode("triangle") == [LEARNED.ids["triangle</w>"]]
    # A prefix of the merges is the vocabulary that a smaller size would have learned.
    small = train_tokenizer(CAPTIONS, 600, 77)
    assert small.vocab_size == 600
    assert small.merges == LEARNED.merges[: 600 - BASE_SIZE]


@pytest.mark.behaviour
def test_few_captions_give_a_smaller_vocabulary_than_asked():
    tokenizer = train_tokenizer(["ab ab", "ab"], 10_000, 9)
    assert tokenizer.merges == (("a", "b</w>"),)
    assert tokenizer.vocab_size == BASE_SIZE + 1
    assert tokenizer.context_length == 9


@pytest.mark.behaviour
def test_a_vocabulary_that_cannot_be_learned_says_why():
    with pytest.raises(TokenizerError, match=r"of 514 has no room.*bytes alone are 514"):
        train_tokenizer(CAPTIONS, BASE_SIZE, 77)
    for nothing in ([], ["", "  \n"], ["a b c"]):
        with pytest.raises(TokenizerError, match="hold no text to learn"):
            train_tokenizer(nothing, 1000, 77)
    with pytest.raises(TokenizerError, match="context of 2 tokens holds no text"):
        Tokenizer([], 2)


@pytest.mark.property
def test_saved_and_loaded_gives_the_same_ids(tmp_path):
    LEARNED.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert torch.equal(loaded(CAPTIONS), LEARNED(CAPTIONS))
    assert loaded.merges == LEARNED.merges
    assert Tokenizer.load(tmp_path / "tokenizer.json", 9).context_length == 9


def _without_merges(raw: bytes) -> bytes:
    table = json.loads(raw)
    del table["merges"]
    return json.dumps(table).encode()


@pytest.mark.behaviour
@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"[]",
        lambda raw: b"3",
        lambda raw: b"\xff\xfe\x00",
        lambda raw: raw.replace(b'"merges": [', b'"merges": [3, ', 1),
        lambda raw: raw.replace(b'"merges": [', b'"merges": ["one two three", ', 1),
        lambda raw: raw.replace(b'"merges": [', b'"merges": ["a b", "a b", ', 1),
        lambda raw: re.sub(rb'"context_length": \d+', b'"context_length": "x"', raw),
        lambda raw: re.sub(rb'"context_length": \d+', b'"context_length": 1', raw),
        _without_merges,
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    LEARNED.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TokenizerError):
        Tokenizer.load(path)


@pytest.mark.behaviour
def test_what_is_no_vocabulary_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no vocabulary at .*none\.json"):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(TokenizerError, match="is not a vocabulary"):
        Tokenizer.load(tmp_path)
    path = tmp_path / "bpe.txt.gz"
    for raw in (b"not gzip", gzip.compress(b"header\na b c\n"), gzip.compress(b"x" * 99)[:20]):
        path.write_bytes(raw)
        with pytest.raises(TokenizerError):
            Tokenizer.load(path)


@pytest.mark.behaviour
def test_start_and_end_are_read_as_themselves():
    assert LEARNED.encode(f"{START} a {END}") == [
        LEARNED.start,
        LEARNED.ids["a</w>"],
        LEARNED.end,
    ]
    assert LEARNED.decode([LEARNED.start, LEARNED.ids["a</w>"], LEARNED.end, 5, 5]) == "a"


@pytest.mark.golden
def test_rows_are_padded_with_zeros():
    assert pad([[1, 2, 3], [4]]).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert pad([[1]], 4).tolist() == [[1, 0, 0, 0]]
