"""Zero-shot classification by models that predict texts: which class would they have written?

Paper figure 2, by the way of section 3.1.1's Visual N-Grams (Li et al. 2017): the score of a class
is the likelihood of its text, given the picture. With prompts q₁ … q_T of a class, each as likely
as the other,

    score(picture, class) = log 1/T Σᵢ exp ℓ(qᵢ | picture)

    bag of words   ℓ(q) = Σ_w log p(w | picture) over the different words w of q
    caption        ℓ(q) = Σₜ log p(wₜ | picture, w₁ … wₜ₋₁) over its words and its end-of-text

so that the softmax of the scores is the posterior of classes that are equally frequent. `per_token`
takes means in place of the sums of ℓ. Words that all prompts share move no score of a bag of words
unless means are taken. A caption predictor reads every prompt with every picture: images × prompts
passes of its text transformer. Knows pictures as normalised floats and texts as ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bifocal.errors import ConfigError
from bifocal.inputs.tokenizer import pad
from bifocal.loss.predictive import log_probabilities, token_log_likelihood
from bifocal.model.bag_of_words import word_logits
from bifocal.model.captioner import caption_logits
from bifocal.model.clip import CLIP
from bifocal.pretrained import Pretrained

LOGITS = 1 << 24
"""Logits of next tokens that are held at a time."""


class Likelihoods:
    """Log-likelihoods of classes, given pictures.

    Args:
        pretrained: a model that predicts texts.
        rows: the prompts of each class; at least one each.
        per_token: whether a prompt counts by the mean over its tokens, and not by the sum.

    Raises:
        ConfigError: the model compares pictures with texts and predicts none.
    """

    def __init__(
        self, pretrained: Pretrained, rows: Sequence[Sequence[str]], *, per_token: bool = False
    ) -> None:
        if pretrained.model.config.objective == "contrastive":
            raise ConfigError(
                "this model predicts no texts: compare features, or train it with "
                "loss.form=bag_of_words or loss.form=caption"
            )
        self._model = pretrained.model
        self._per_token = per_token
        self._counts = [len(row) for row in rows]
        encode = pretrained.tokenizer.encode_caption
        self._prompts = [encode(prompt)[0] for row in rows for prompt in row]

    @torch.inference_mode()
    def __call__(
        self, images: Float[Tensor, "batch 3 height height"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the scores of normalised pictures."""
        image = self._model.read_image(images)
        match self._model:
            case CLIP() as model:
                prompts = torch.cat(list(self._captions(model, image)), dim=1)
            case _:
                prompts = self._words(image)
        # The mean over prompts, not their sum: classes may have unequal numbers of them.
        parts = zip(prompts.split(self._counts, dim=1), self._counts, strict=True)
        return torch.stack([part.logsumexp(1) - math.log(n) for part, n in parts], dim=1)

    def _words(self, image: Float[Tensor, "batch embed_dim"]) -> Float[Tensor, "batch prompts"]:
        """Return each prompt's log-likelihood as a set of words."""
        sets = [sorted(set(prompt[1:-1])) for prompt in self._prompts]
        flat = torch.tensor([word for words in sets for word in words], device=image.device)
        first = torch.tensor([0, *map(len, sets[:-1])], device=image.device).cumsum(0)
        said = log_probabilities(word_logits(self._model, image))
        mode = "mean" if self._per_token else "sum"
        return F.embedding_bag(flat, said.T.contiguous(), first, mode=mode).T

    def _captions(
        self, model: CLIP, image: Float[Tensor, "batch embed_dim"]
    ) -> Iterator[Float[Tensor, "batch some"]]:
        """Yield each prompt's log-likelihood as a caption, some prompts at a time."""
        longest = max(map(len, self._prompts))
        at_once = max(1, LOGITS // (len(image) * longest * model.vocab_size))
        for n in range(0, len(self._prompts), at_once):
            tokens = pad(self._prompts[n : n + at_once]).to(image.device)
            every = tokens.repeat(len(image), 1)
            each = image.repeat_interleave(len(tokens), dim=0)
            said = token_log_likelihood(caption_logits(model, each, every), every).sum(dim=1)
            said = said.unflatten(0, (len(image), len(tokens)))
            yield said / tokens.argmax(dim=1) if self._per_token else said
