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
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ftfy
import numpy as np
import regex
import torch
from jaxtyping import Int
from torch import Tensor

from bifocal.errors import TokenizerError

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
BASE_SIZE = 2 * 256 + 2
"""Ids that every vocabulary has: bytes, word-final bytes, start and end of text."""
PUBLISHED_MERGES = 49152 - 256 - 2
"""Merges that OpenAI's models take from a file of 262,144; with the base they make 49,408 ids."""

_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>"
_CONTRACTION = r"'s|'t|'re|'ve|'m|'ll|'d"
_WORD = regex.compile(
    rf"{_SPECIAL}|{_CONTRACTION}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
_ASCII_WORD = re.compile(rf"[a-z]+|{_SPECIAL}|{_CONTRACTION}|[0-9]|[^\sa-z0-9]+")
"""The same for lower-case printable ASCII; letters first, as nothing else begins with one."""
_ASCII_SPACES = str.maketrans("\t\n\r", "   ")
_SPACES = regex.compile(r"\s+")
_CACHE_LIMIT = 1 << 20

Merge = tuple[str, str]
_EncodeWord = Callable[[str], tuple[int, ...]]


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
    plain = _plain(text)
    if plain is not None:
        return " ".join(plain.split())
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _SPACES.sub(" ", text).strip().lower()


def words(text: str) -> list[str]:
    """Return the words of a cleaned text: what merges never cross."""
    return (_ASCII_WORD if text.isascii() and text.isprintable() else _WORD).findall(text)


def _plain(text: str) -> str | None:
    """Return `text` in lower case where no repair could change more, else None."""
    if not text.isascii() or "&" in text:
        return None
    if not text.isprintable():
        text = text.translate(_ASCII_SPACES)
        if not text.isprintable():
            return None
    return text.lower()


class _WordCache(dict[str, tuple[int, ...]]):
    """Ids of words already met; an unknown word is merged as it is asked for."""

    def __init__(self, special: dict[str, tuple[int, ...]], encode: _EncodeWord) -> None:
        super().__init__(special)
        self._special, self._encode = special, encode

    def __missing__(self, word: str) -> tuple[int, ...]:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
            self.update(self._special)
        ids = self[word] = self._encode(word)
        return ids


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
        special = {START: (self.start,), END: (self.end,)}
        self._cache = _WordCache(special, self._encode_word)

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
        plain = _plain(text)
        found = words(clean(text)) if plain is None else _ASCII_WORD.findall(plain)
        return list(itertools.chain.from_iterable(map(self._cache.__getitem__, found)))

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

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Merge the bytes of one word, best rank first."""
        parts = [self._bytes[byte] for byte in word.encode("utf-8")]
        parts[-1] += END_OF_WORD
        last = len(self._ranks)
        ranks = [self._ranks.get(pair, last) for pair in itertools.pairwise(parts)]
        while ranks and (best := min(ranks)) < last:
            # All places of the best pair are merged, from the left, before another is looked for;
            # what a merge makes cannot be the best pair again, since it has grown.
            while best in ranks:
                n = ranks.index(best)
                parts[n : n + 2] = [parts[n] + parts[n + 1]]
                del ranks[n]
                for at in (n - 1, n):
                    if 0 <= at < len(ranks):
                        ranks[at] = self._ranks.get((parts[at], parts[at + 1]), last)
        return tuple(self.ids[part] for part in parts)


def pad(rows: Sequence[Sequence[int]], length: int | None = None) -> Int[Tensor, "batch length"]:
    """Return rows of ids as one matrix, padded with 0 to `length` or to the longest row."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    width = length or int(lengths.max(initial=0))
    matrix = np.zeros((len(rows), width), dtype=np.int64)
    ids = array("q", itertools.chain.from_iterable(rows))
    matrix[np.arange(width) < lengths[:, None]] = np.frombuffer(ids, dtype=np.int64)
    return torch.from_numpy(matrix)


def openai_merges(text: str) -> list[Merge]:
    """Return the merges that OpenAI's models use of its vocabulary file: 48,894 after a header."""
    lines = text.split("\n")[1 : 1 + PUBLISHED_MERGES]
    return [_pair(line) for line in lines]


def _pair(line: str) -> Merge:
    left, right = line.split()
    return left, right
