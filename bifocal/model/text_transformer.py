"""The text tower: a causal transformer read at its end-of-text token.

Paper section 2.4. Its cost follows the longest caption of the batch, not the context length:
under a causal mask nothing after the end-of-text token can reach the features, so cutting it off
is exact. Knows token ids; knows nothing of pictures or of how text becomes ids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.model.config import Activation, TextConfig
from bifocal.model.layers import Transformer


class TextTransformer(nn.Module):
    """Token and positional embeddings, a transformer, `ln_final` and `text_projection`.

    OpenAI's layout keeps these parameters at the root of the model, beside `visual`, which is why
    `CLIP` inherits from this class instead of holding one.

    Args:
        config: sizes of the tower.
        embed_dim: width of the shared space.
        activation: the one inside the transformer's blocks.
    """

    length_multiple: int
    """Captions are read as if they had a multiple of so many tokens, as far as the context goes."""

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.length_multiple = 1
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(
            config.width, config.layers, config.heads, causal=True, activation=activation
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def read_text(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, not normalised.

        Args:
            tokens: ids; the end-of-text token has the highest id of its row.

        Raises:
            ConfigError: the rows are longer than the context.
        """
        if tokens.shape[1] > self.context_length:
            raise ConfigError(
                f"captions of {tokens.shape[1]} tokens for a context of {self.context_length}: "
                "tokenize with the model's own tokenizer, which truncates"
            )
        end = tokens.argmax(dim=-1)
        length = int(end.max()) + 1 if tokens.device.type != "meta" else tokens.shape[1]
        x = self.token_embedding(self.padded(tokens[:, :length]))
        x = self.transformer(x + self.positional_embedding[: x.shape[1]].to(x.dtype))
        at_end = x[torch.arange(len(x), device=x.device), end]
        return self.ln_final(at_end) @ self.text_projection

    def padded(self, tokens: Int[Tensor, "batch length"]) -> Int[Tensor, "batch padded"]:
        """Return rows of a length that `length_multiple` and the context allow."""
        length = tokens.shape[1]
        missing = min(-length % self.length_multiple, self.context_length - length)
        return F.pad(tokens, (0, missing)) if missing else tokens

    @torch.no_grad()
    def initialize_text(self, generator: torch.Generator) -> None:
        """Draw every weight of the tower anew, as the paper does."""
        nn.init.normal_(self.token_embedding.weight, std=0.02, generator=generator)
        nn.init.normal_(self.positional_embedding, std=0.01, generator=generator)
        std = self.transformer.width**-0.5
        nn.init.normal_(self.text_projection, std=std, generator=generator)
        self.transformer.initialize(generator)
        self.ln_final.reset_parameters()
