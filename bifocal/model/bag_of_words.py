"""Text as the words that occur in it, whatever their order; and words predicted from pictures.

Paper section 2.3 and figure 2: "the same bag-of-words encoding" under a predictive and under a
contrastive objective. Both read the same two matrices, E (token embeddings, a row a word) and P
(`text_projection`):

    text features    mean of E[w] over the words w of the text, counted as often as they occur, · P
    word logits      x P ᵀ E ᵀ for image features x that are not normalised

so that only the loss tells the two apart. There is no bias a word: the image towers end in biases
of their own, from which the matrices can make one. Words are token ids; start- and end-of-text and
padding are none. Knows token ids and features; knows no losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bifocal.errors import ConfigError
from bifocal.model.clip import TwoTowers
from bifocal.model.config import BagOfWordsConfig, CLIPConfig
from bifocal.model.layers import TokenEmbedding


class BagOfWords(nn.Module):
    """Token embeddings, averaged over a text, and `text_projection`.

    Args:
        config: sizes of the tower.
        embed_dim: width of the shared space.
    """

    def __init__(self, config: BagOfWordsConfig, embed_dim: int) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.vocab_size = config.vocab_size
        self.token_embedding = TokenEmbedding(config.vocab_size, config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))

    def read_text(
        self, tokens: Int[Tensor, "batch length"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """Return text features, not normalised; zeros for a text without words.

        Args:
            tokens: ids; the end-of-text token has the highest id of its row.
            lengths: not asked for.
        """
        words = word_mask(tokens)
        weight = words.to(self.token_embedding.weight.dtype)
        total = (self.token_embedding(tokens) * weight[:, :, None]).sum(dim=1)
        return total / weight.sum(dim=1, keepdim=True).clamp(min=1) @ self.text_projection

    @torch.no_grad()
    def initialize_text(self, generator: torch.Generator) -> None:
        """Draw both matrices anew, as those of a text transformer."""
        nn.init.normal_(self.token_embedding.weight, std=0.02, generator=generator)
        std = self.token_embedding.embedding_dim**-0.5
        nn.init.normal_(self.text_projection, std=std, generator=generator)


class BagOfWordsCLIP(BagOfWords, TwoTowers):
    """An image tower beside a bag of words.

    Args:
        config: the architecture.
        seed: of the random initial weights.

    Raises:
        ConfigError: the text tower is a transformer.
    """

    def __init__(self, config: CLIPConfig, seed: int = 0) -> None:
        if not isinstance(config.text, BagOfWordsConfig):
            raise ConfigError("the text tower is a transformer: set model.text.kind=bag_of_words")
        super().__init__(config.text, config.embed_dim)
        self.complete(config, seed)


def word_mask(tokens: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """Return where the words of each text stand: behind its start and before its end."""
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return (place > 0) & (place < tokens.argmax(dim=1, keepdim=True))


def word_logits(
    model: TwoTowers, image: Float[Tensor, "batch embed_dim"]
) -> Float[Tensor, "batch vocab_size"]:
    """Return how strongly each picture asks for each word.

    Args:
        model: whose embeddings and projection are read.
        image: features that are not normalised.
    """
    return image @ model.text_projection.T @ model.token_embedding.weight.T
