"""Byte-level BPE with end-of-word marks: text to token ids, as the published models read it.

The algorithm is OpenAI's (paper section 2.4: lower-cased byte pair encoding, Sennrich et al.
2016): text is repaired, lower-cased and split into words; each word's bytes are merged in the
order of the vocabulary. Ids are laid out as 256 bytes, 256 word-final bytes, one id a merge,
start-of-text and, highest, end-of-text. Knows nothing of models.
"""

from __future__ import annotations

import gzip
import html
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import ftfy
import regex
import torch
from jaxtyping import Int
from torch import Tensor

from bifocal.errors import TokenizerError

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
BASE_SIZE = 2 * 256 + 2
"""Ids that every vocabulary has: bytes, word-final bytes, start and end of text."""

_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>"
_CONTRACTION = r"'s|'t|'re|'ve|'m|'ll|'d"
_WORD = regex.compile(
    rf"{_SPECIAL}|{_CONTRACTION}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
_ASCII_WORD = re.compile(rf"{_SPECIAL}|{_CONTRACTION}|[a-z]+|[0-9]|[^\sa-z0-9]+")
_SPACES = regex.compile(r"\s+")
_CACHE_LIMIT = 1 << 20

Merge = tuple[str, str]


def byte_characters() -> tuple[str, ...]:
    """Return the visible character that stands for each of the 256 bytes."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    characters = {byte: chr(byte) for byte in visible}
    characters |= {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return tuple(characters[byte] for byte in range(256))


def clean(text: str) -> str:
    """Return `text` repaired (mojibake, HTML entities), with single spaces, in lower case.

    Printable ASCII without an ampersand has nothing to repair and skips the repair.
    """
    if _is_plain(text) and "&" not in text:
        return " ".join(text.split()).lower()
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _SPACES.sub(" ", text).strip().lower()


def words(text: str) -> list[str]:
    """Return the words of a cleaned text: what merges never cross."""
    return (_ASCII_WORD if _is_plain(text) else _WORD).findall(text)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


class Tokenizer:
    """Maps captions to rows of ids that a text tower reads.

    Args:
        merges: pairs of symbols in the order in which they are merged.
        context_length: ids a row, start- and end-of-text included.

    Raises:
        TokenizerError: two merges make the same symbol, or the context holds no text.
    """

    def __init__(self, merges: Sequence[Merge], context_length: int = 77) -> None:
        if context_length < 3:
            raise TokenizerError(f"a context of {context_length} tokens holds no text: 3 at least")
        self.merges = tuple(merges)
        self.context_length = context_length
        self._bytes = byte_characters()
        order = sorted(self._bytes)
        symbols = [*order, *(c + END_OF_WORD for c in order), *map("".join, self.merges)]
        self.ids = {symbol: n for n, symbol in enumerate([*symbols, START, END])}
        if len(self.ids) != len(symbols) + 2:
            raise TokenizerError("the vocabulary holds one symbol twice: it is damaged")
        self._ranks = {merge: rank for rank, merge in enumerate(self.merges)}
        self._symbols = [*symbols, START, END]
        self._cache: dict[str, tuple[int, ...]] = self._empty_cache()

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._symbols)

    @property
    def start(self) -> int:
        """Id of start-of-text."""
        return len(self._symbols) - 2

    @property
    def end(self) -> int:
        """Id of end-of-text, the highest of all."""
        return len(self._symbols) - 1

    def symbol(self, number: int) -> str:
        """Return the symbol that an id stands for, in the alphabet of byte characters."""
        return self._symbols[number]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text of any length, without start and end."""
        cache = self._cache
        ids: list[int] = []
        for word in words(clean(text)):
            known = cache.get(word)
            if known is None:
                known = self._encode_word(word)
                if len(cache) >= _CACHE_LIMIT:
                    cache = self._cache = self._empty_cache()
                cache[word] = known
            ids.extend(known)
        return ids

    def encode_caption(self, text: str) -> tuple[list[int], bool]:
        """Return start, ids and end within the context, and whether ids were cut off."""
        ids = self.encode(text)
        room = self.context_length - 2
        return [self.start, *ids[:room], self.end], len(ids) > room

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "batch length"]:
        """Return one row of ids a text, padded with 0 to the context length."""
        texts = [texts] if isinstance(texts, str) else texts
        return pad([self.encode_caption(text)[0] for text in texts], self.context_length)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a row of ids up to its end; start and end are left out."""
        row = itertools.takewhile(lambda n: n != self.end, ids)
        kept = [self._symbols[n] for n in row if n != self.start]
        values = {character: byte for byte, character in enumerate(self._bytes)}
        text = "".join(kept).replace(END_OF_WORD, " ")
        raw = b"".join(b" " if c == " " else bytes([values[c]]) for c in text)
        return raw.decode("utf-8", errors="replace").strip()

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        table = {
            "format": "bifocal.tokenizer/1",
            "context_length": self.context_length,
            "merges": [" ".join(merge) for merge in self.merges],
        }
        path.write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path, context_length: int | None = None) -> Tokenizer:
        """Read a vocabulary: bifocal's JSON, or OpenAI's `bpe_simple_vocab_16e6.txt.gz`.

        Raises:
            TokenizerError: the file is missing or is neither.
        """
        try:
            if path.suffix == ".gz":
                merges = openai_merges(gzip.decompress(path.read_bytes()).decode("utf-8"))
                return cls(merges, context_length or 77)
            table = json.loads(path.read_text("utf-8"))
            merges = [_pair(line) for line in table["merges"]]
            return cls(merges, context_length or table["context_length"])
        except FileNotFoundError:
            raise TokenizerError(f"no vocabulary at {path}") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise TokenizerError(
                f"{path} is not a vocabulary ({error}): give a tokenizer.json that bifocal wrote, "
                "or bpe_simple_vocab_16e6.txt.gz"
            ) from None

    def _empty_cache(self) -> dict[str, tuple[int, ...]]:
        return {START: (self.start,), END: (self.end,)}

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Merge the bytes of one word, best rank first."""
        parts = [self._bytes[byte] for byte in word.encode("utf-8")]
        parts[-1] += END_OF_WORD
        while len(parts) > 1:
            pairs = set(zip(parts, parts[1:], strict=False))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged: list[str] = []
            for part in parts:
                # `merged[-1]` is never the product of this merge unless best repeats a symbol,
                # and then it has grown and cannot match again.
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        return tuple(self.ids[part] for part in parts)


def pad(rows: Sequence[Sequence[int]], length: int | None = None) -> Int[Tensor, "batch length"]:
    """Return rows of ids as one matrix, padded with 0 to `length` or to the longest row."""
    width = length or max(map(len, rows), default=0)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64)


def openai_merges(text: str) -> list[Merge]:
    """Return the merges that OpenAI's models use of its vocabulary file: 48,894 after a header."""
    lines = text.split("\n")[1 : 49152 - BASE_SIZE + 2 + 1]
    return [_pair(line) for line in lines]


def _pair(line: str) -> Merge:
    left, right = line.split()
    return left, right
