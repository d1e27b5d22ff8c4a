"""Trains a vocabulary on captions, for models that start from nothing.

The counting and merging is the library `tokenizers`'; the words, the byte alphabet and the
end-of-word mark are `inputs.tokenizer`'s, so that what is trained is exactly what is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer as Trainable
from tokenizers import models, pre_tokenizers, trainers

from bifocal.errors import TokenizerError
from bifocal.inputs.tokenizer import (
    BASE_SIZE,
    END_OF_WORD,
    Merge,
    Tokenizer,
    byte_characters,
    clean,
    words,
)

_PRIVATE_USE = 0xE000
"""First of the characters that stand for word-final bytes while merges are learned."""


def train_tokenizer(captions: Iterable[str], vocab_size: int, context_length: int) -> Tokenizer:
    """Return a tokenizer whose merges are the most frequent of `captions`.

    Fewer merges than asked for are learned when the captions hold no more that occur twice; the
    vocabulary is then smaller than `vocab_size`.

    Raises:
        TokenizerError: `vocab_size` leaves no room for a merge, or there is no text.
    """
    if vocab_size <= BASE_SIZE:
        raise TokenizerError(
            f"a vocabulary of {vocab_size} has no room for words: the bytes alone are {BASE_SIZE}"
        )
    merges = _learn(_spelled(captions), vocab_size - BASE_SIZE)
    if not merges:
        raise TokenizerError("the captions hold no text to learn a vocabulary from")
    return Tokenizer(merges, context_length)


def _symbols() -> dict[str, str]:
    """Return a character for each of the 512 byte symbols, word-final ones included.

    The library numbers an end-of-word suffix's symbols in the order of a hash table and breaks
    ties by number, so that equal captions would give unequal vocabularies; single characters it
    numbers in their own order.
    """
    alphabet = byte_characters()
    return {c: c for c in alphabet} | {
        c + END_OF_WORD: chr(_PRIVATE_USE + n) for n, c in enumerate(alphabet)
    }


def _spelled(captions: Iterable[str]) -> Iterator[str]:
    """Yield each caption as words of symbols' characters, set apart by single spaces."""
    alphabet = byte_characters()
    for caption in captions:
        encoded = (word.encode("utf-8") for word in words(clean(caption)))
        yield " ".join(
            "".join(alphabet[byte] for byte in word[:-1]) + chr(_PRIVATE_USE + word[-1])
            for word in encoded
        )


def _learn(lines: Iterator[str], count: int) -> list[Merge]:
    symbols = _symbols()
    trainable = Trainable(models.BPE())
    trainable.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=count + len(symbols),
        min_frequency=2,
        show_progress=False,
        initial_alphabet=list(symbols.values()),
        limit_alphabet=len(symbols),
    )
    trainable.train_from_iterator(lines, trainer)
    learned = json.loads(trainable.to_str())["model"]["merges"]
    final = str.maketrans({one: symbol for symbol, one in symbols.items()})
    return [(left.translate(final), right.translate(final)) for left, right in learned]
