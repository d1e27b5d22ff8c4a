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


def _spelled(captions: Iterable[str]) -> Iterator[str]:
    """Yield each caption as words of byte characters, set apart by single spaces."""
    alphabet = byte_characters()
    for caption in captions:
        spelled = ("".join(alphabet[b] for b in w.encode("utf-8")) for w in words(clean(caption)))
        yield " ".join(spelled)


def _learn(lines: Iterator[str], count: int) -> list[Merge]:
    alphabet = list(byte_characters())
    trainable = Trainable(models.BPE(end_of_word_suffix=END_OF_WORD))
    trainable.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        # The library counts only the word-final bytes that occur; asking for all merges that
        # occur twice and cutting the list gives the same merges for every such count.
        vocab_size=count + BASE_SIZE,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        end_of_word_suffix=END_OF_WORD,
    )
    trainable.train_from_iterator(lines, trainer)
    learned = json.loads(trainable.to_str())["model"]["merges"]
    return [(left, right) for left, right in learned][:count]
