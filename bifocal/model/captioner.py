"""Captions predicted from pictures, token by token (paper section 2.3: "similar to VirTex").

The text transformer, unchanged, with the picture where start-of-text stood: its features x, which
are not normalised, come in through the transpose of the projection by which text features go out,
and under the causal mask every later token attends to them. The next token is chosen by the token
embeddings themselves (tied, as in Desai & Johnson 2021, "VirTex", arXiv 2006.06666):

    input    x P ᵀ, E[w₁], …, E[wₙ]          plus positional embeddings
    logits   ln_final(transformer(input)) E ᵀ
    predict  w₁,    w₂,    …, end-of-text

VirTex attends to a map of features by cross-attention and predicts in both directions; this is the
smallest form that the paper's sentence allows, and it has exactly the parameters of a `CLIP`. Knows
token ids and features; knows no losses.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.model.clip import CLIP


def caption_logits(
    model: CLIP,
    image: Float[Tensor, "batch embed_dim"],
    tokens: Int[Tensor, "batch length"],
) -> Float[Tensor, "batch steps vocab_size"]:
    """Return at each place what comes next: row t is about tokens[:, t + 1].

    Args:
        model: whose text transformer writes.
        image: features that are not normalised.
        tokens: start-of-text, words, end-of-text and padding; what follows a row's end-of-text
            reaches nothing before it.

    Returns:
        logits for length - 1 steps.

    Raises:
        ConfigError: the rows are longer than the context.
    """
    length = tokens.shape[1]
    if length > model.context_length:
        raise ConfigError(
            f"captions of {length} tokens for a context of {model.context_length}: tokenize with "
            "the model's own tokenizer, which truncates"
        )
    written = model.token_embedding(tokens[:, 1:-1])
    first = (image @ model.text_projection.T)[:, None].to(written.dtype)
    x = torch.cat([first, written], dim=1)
    x = model.transformer(x + model.positional_embedding[: x.shape[1]].to(x.dtype))
    return model.ln_final(x) @ model.token_embedding.weight.T
