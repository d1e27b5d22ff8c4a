"""The object that `open_clip.get_tokenizer` returns, on bifocal's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from bifocal.inputs.tokenizer import END_OF_WORD, Tokenizer, byte_characters, pad


@dataclass(frozen=True)
class OpenClipTokenizer:
    """Texts to rows of ids; what is too long is cut, keeping the end-of-text token.

    Attributes:
        tokenizer: the vocabulary.
        context_length: ids a row, unless a call says otherwise.
    """

    tokenizer: Tokenizer
    context_length: int

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.tokenizer.vocab_size

    @property
    def sot_token_id(self) -> int:
        """Id of start-of-text."""
        return self.tokenizer.start

    @property
    def eot_token_id(self) -> int:
        """Id of end-of-text."""
        return self.tokenizer.end

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of start- and end-of-text."""
        return [self.sot_token_id, self.eot_token_id]

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[Tensor, "batch length"]:
        """Return one row of ids a text, padded with 0."""
        length = context_length or self.context_length
        given = [texts] if isinstance(texts, str) else texts
        rows = [
            [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            for text in given
        ]
        return pad(rows, length)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""
        return self.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ids, with a space after every word and special tokens by name."""
        values = {character: byte for byte, character in enumerate(byte_characters())}
        spelled = "".join(self.tokenizer.symbol(int(n)) for n in tokens)
        raw = bytes(values[character] for character in spelled)
        return raw.decode("utf-8", errors="replace").replace(END_OF_WORD, " ")
