"""OpenAI's ids: the fast path against its plain twin on strings made to break it."""

from __future__ import annotations

import html
import itertools
import random
from pathlib import Path

import ftfy
import hypothesis.strategies as st
import pytest
import regex
from hypothesis import example, given, settings

from bifocal.inputs.tokenizer import END, START, Tokenizer, byte_characters

# What tokenizers are known to disagree on: quotes, entities, mojibake, special tokens, ligatures,
# combining marks, digits of other scripts, white space and control characters of every kind.
LINES = (
    "'s 't 'RE 'Ll 'ſ <|startoftext|> <|endoftext|> <|STARTOFTEXT|> <|ſtartoftext|>",
    "&amp; &amp;amp; &lt;b&gt; &#39; &#28; &#133; &nbsp; &eacute; &quot &copy â€œ â€™ Ã© ðŸ˜‰ Â£ ’",
    "” … e\u0301 ｆｕｌｌ ﬁ Ǆ İ ı K ß ẞ ١٢٣ ½ ² Ⅷ 猫 日本語 한국어 हिन्दी ไทย 👩‍👩‍👧 🇩🇪 ☕️ ♥",
    "12345 !!! ... -- a_b http://x.y/z?q=1&r=2 <br> don't I'M rock'n'roll aaaaaaaaaaaaa the Cat",
)
SPACES = [chr(n) for n in (*range(33), 0x7F, 0x85, 0xA0, 0x200B, 0x200D, 0x2028, 0x3000)]
PIECES = [piece for line in LINES for piece in line.split()] + SPACES


def plain_ids(tokenizer: Tokenizer, ranks: dict, text: str) -> list[int]:
    """Return the ids by the definition: repair, lower-case, split, merge; nothing is remembered."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = regex.sub(r"\s+", " ", text).strip().lower()
    pattern = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
        r"|[^\s\p{L}\p{N}]+"
    )
    ids: list[int] = []
    for word in regex.findall(pattern, text, regex.IGNORECASE):
        ids += [tokenizer.ids[word]] if word in (START, END) else plain_word(tokenizer, ranks, word)
    return ids


def plain_word(tokenizer: Tokenizer, ranks: dict, word: str) -> list[int]:
    alphabet = byte_characters()
    parts = [alphabet[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    while True:
        known = [(ranks[pair], pair) for pair in itertools.pairwise(parts) if pair in ranks]
        if not known:
            return [tokenizer.ids[part] for part in parts]
        (left, right), n = min(known)[1], 0
        while n < len(parts) - 1:
            if (parts[n], parts[n + 1]) == (left, right):
                parts[n : n + 2] = [left + right]
            n += 1


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> Tokenizer:
    return Tokenizer.load(vocabulary)


@pytest.fixture(scope="module")
def ranks(tokenizer: Tokenizer) -> dict:
    return {merge: rank for rank, merge in enumerate(tokenizer.merges)}


@pytest.mark.property
@settings(max_examples=400)
@given(st.lists(st.sampled_from([*PIECES, " ", " "]) | st.text(max_size=8), max_size=12))
@example(["a\tb\nc\r\nd"])
@example(["tail\n"])
def test_the_fast_path_is_the_plain_one(
    tokenizer: Tokenizer, ranks: dict, pieces: list[str]
) -> None:
    text = "".join(pieces)
    assert tokenizer.encode(text) == plain_ids(tokenizer, ranks, text)


@pytest.mark.property
def test_remembered_words_have_the_same_ids(tokenizer: Tokenizer) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(PIECES, k=9)) for _ in range(200)]
    first = [tokenizer.encode(text) for text in texts]
    assert first == [tokenizer.encode(text) for text in texts]
    assert first == [Tokenizer(tokenizer.merges).encode(text) for text in texts[:3]] + first[3:]


# From the README and the notebooks of github.com/openai/CLIP, as its `clip.tokenize` prints them.
@pytest.mark.golden
def test_ids_that_openai_shows(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 49408
    assert tokenizer("hello world")[0, :5].tolist() == [49406, 3306, 1002, 49407, 0]
    assert tokenizer("a diagram").shape == (1, 77)
    assert tokenizer.decode(tokenizer("Hello   World!")[0].tolist()) == "hello world !"
