"""Predictive losses: what it costs to guess each picture's caption. Paper section 2.3, figure 2.

With N pairs over all processes,

    bag of words   -1/N Σₙ 1/|Wₙ| Σ_{w ∈ Wₙ} log softmax(sₙ)_w     Wₙ: words that occur in caption n
    caption        -1/N Σₙ Σₜ log softmax(lₙₜ)_{wₙₜ}               t: its words, its end-of-text

The first is the multi-class logistic loss over words of Joulin et al. 2016 (arXiv 1511.02251), who
draw one word of each caption at a time, which costs the same in expectation; a target of 1/|W| a
word is Mahajan et al. 2018's (arXiv 1805.00932). The second is VirTex's (arXiv 2006.06666), forward
only, summed over a caption, so that it is the caption's negative log-likelihood in nats.

Pairs know nothing of each other: chunks and processes simply add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bifocal.loss.objective import ContrastiveLoss
from bifocal.model.bag_of_words import word_logits, word_mask
from bifocal.model.captioner import caption_logits
from bifocal.model.clip import CLIP, TwoTowers


@runtime_checkable
class PredictiveLoss(Protocol):
    """Says what each pair costs by itself."""

    def costs(
        self,
        model: TwoTowers,
        image: Float[Tensor, "batch embed_dim"],
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, " batch"]:
        """Return the loss of each pair, differentiable, in float32 or better.

        Args:
            model: that predicts.
            image: features that are not normalised.
            tokens: of the captions; padding does not count.
        """
        ...


Loss = ContrastiveLoss | PredictiveLoss


@dataclass(frozen=True, slots=True)
class BagOfWordsLoss:
    """Cross-entropy between the words of a caption, evenly, and the softmax over all words."""

    def costs(
        self,
        model: TwoTowers,
        image: Float[Tensor, "batch embed_dim"],
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, " batch"]:
        """Return the mean of -log p over the words of each caption; 0 for one without words."""
        return -word_log_likelihood(word_logits(model, image), word_set(tokens, model.vocab_size))


@dataclass(frozen=True, slots=True)
class CaptionLoss:
    """Cross-entropy of every next token of a caption, given the picture and those before it."""

    def costs(
        self,
        model: TwoTowers,
        image: Float[Tensor, "batch embed_dim"],
        tokens: Int[Tensor, "batch length"],
    ) -> Float[Tensor, " batch"]:
        """Return the sum of -log p over the words and the end of each caption."""
        assert isinstance(model, CLIP), "settings let only a transformer predict captions"
        return -token_log_likelihood(caption_logits(model, image, tokens), tokens).sum(dim=1)


def word_set(tokens: Int[Tensor, "batch length"], vocab_size: int) -> Bool[Tensor, "batch words"]:
    """Return which of the vocabulary's words occur in each text, once or more often."""
    words = tokens.where(word_mask(tokens), vocab_size)  # what is no word goes to one column more
    found = torch.zeros(len(tokens), vocab_size + 1, dtype=torch.bool, device=tokens.device)
    return found.scatter_(1, words, True)[:, :vocab_size]


def word_log_likelihood(
    logits: Float[Tensor, "batch words"], words: Bool[Tensor, "batch words"]
) -> Float[Tensor, " batch"]:
    """Return the mean log-probability of each row's words, under a softmax over all of them."""
    count = words.sum(dim=1).clamp(min=1)
    return log_probabilities(logits).where(words, 0).sum(dim=1) / count


def token_log_likelihood(
    logits: Float[Tensor, "batch steps vocab_size"], tokens: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch steps"]:
    """Return the log-probability of each next token, up to the end of text; 0 beyond it.

    Args:
        logits: row t is about tokens[:, t + 1].
        tokens: start-of-text, words, end-of-text and padding.
    """
    place = torch.arange(logits.shape[1], device=tokens.device)
    asked = place < tokens.argmax(dim=1, keepdim=True)
    said = log_probabilities(logits).gather(2, tokens[:, 1:, None])[:, :, 0]
    return said.where(asked, 0)


def log_probabilities(logits: Float[Tensor, "*rows words"]) -> Float[Tensor, "*rows words"]:
    """Return the logarithm of the softmax over the last dimension, in float32 or better."""
    return F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
