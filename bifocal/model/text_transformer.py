"""The text tower: a causal transformer read at its end-of-text token.

Paper section 2.4. Its cost follows the words that there are, not the context length: under a causal
mask nothing after the end-of-text token can reach the features, so captions are packed without it,
and the last block ends in that token alone. Both are exact. Knows token ids; knows nothing of
pictures or of how text becomes ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.model.config import Activation, TextConfig
from bifocal.model.layers import TokenEmbedding, Transformer, look_up
from bifocal.model.packing import pack


class TextTransformer(nn.Module):
    """Token and positional embeddings, a transformer, `ln_final` and `text_projection`.

    OpenAI's layout keeps these parameters at the root of the model, beside `visual`, which is why
    `CLIP` inherits from this class instead of holding one.

    Args:
        config: sizes of the tower.
        embed_dim: width of the shared space.
        activation: the one inside the transformer's blocks.
    """

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.token_embedding = TokenEmbedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(
            config.width, config.layers, config.heads, causal=True, activation=activation
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def read_text(
        self, tokens: Int[Tensor, "batch length"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, not normalised.

        Args:
            tokens: ids; the end-of-text token has the highest id of its row.
            lengths: of the rows up to their end-of-text, where they are known; finding them makes
                an accelerator's queue wait.

        Raises:
            ConfigError: the rows are longer than the context.
        """
        if tokens.shape[1] > self.context_length:
            raise ConfigError(
                f"captions of {tokens.shape[1]} tokens for a context of {self.context_length}: "
                "tokenize with the model's own tokenizer, which truncates"
            )
        packed = pack(lengths or lengths_of(tokens), tokens.device)
        length = packed.taken.shape[1]
        ids = tokens[:, :length].flatten()[packed.places]
        positions = look_up(packed.places % length, self.positional_embedding)
        x = self.token_embedding(ids)
        x = self.transformer(x + positions.to(x.dtype), packed, one=True)
        return self.ln_final(x) @ self.text_projection

    @torch.no_grad()
    def initialize_text(self, generator: torch.Generator) -> None:
        """Draw every weight of the tower anew, as the paper does."""
        nn.init.normal_(self.token_embedding.weight, std=0.02, generator=generator)
        nn.init.normal_(self.positional_embedding, std=0.01, generator=generator)
        std = self.transformer.width**-0.5
        nn.init.normal_(self.text_projection, std=std, generator=generator)
        self.transformer.initialize(generator)
        self.ln_final.reset_parameters()


def lengths_of(tokens: Int[Tensor, "batch length"]) -> list[int]:
    """Return how far each row reaches: to its end-of-text, or whole where ids have no content."""
    if tokens.device.type == "meta":
        return [tokens.shape[1]] * len(tokens)
    return (tokens.argmax(dim=1) + 1).tolist()
