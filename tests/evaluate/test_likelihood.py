"""Zero-shot by likelihood, against the same sums written out one word at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bifocal.data.sample import Sample
from bifocal.errors import ConfigError
from bifocal.evaluate import likelihood
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.explain import differences
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.likelihood import Likelihoods
from bifocal.evaluate.results import Origin, zero_shot_record
from bifocal.evaluate.zero_shot import classify
from bifocal.identity import identify_data, identify_model
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import BASE_SIZE, Tokenizer
from bifocal.model.build import build_model
from bifocal.model.config import BagOfWordsConfig
from bifocal.pretrained import Pretrained

ROWS = [["a cat", "it is a cat cat"], ["dog"], ["an owl", "one owl", "owl, an owl"]]
"""Classes with unequal numbers of prompts, of unequal lengths, and words that occur twice."""


@pytest.fixture(params=["bag_of_words", "caption"])
def model(request, tiny_vit):
    update = {"objective": request.param}
    if request.param == "bag_of_words":
        update["text"] = BagOfWordsConfig(context_length=12, vocab_size=600, width=16)
    model = build_model(tiny_vit.model_copy(update=update), seed=1)
    torch.nn.init.normal_(model.token_embedding.weight)  # far from telling nothing apart
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    merges = [(a, b) for a in letters for b in letters][: 600 - BASE_SIZE]
    return Pretrained(model.eval(), Tokenizer(merges, 12), Preprocess(image_size=16))


def brute(pretrained: Pretrained, image: torch.Tensor, prompt: str, per_token: bool) -> float:
    """Return the log-likelihood of one prompt, given one picture, one word at a time."""
    model = pretrained.model
    embedding, projection = model.token_embedding.weight, model.text_projection
    ids = pretrained.tokenizer.encode_caption(prompt)[0]
    seen = projection @ model.visual(image[None])[0]
    if model.config.objective == "bag_of_words":
        probabilities = (embedding @ seen).softmax(0)
        said = [math.log(probabilities[word]) for word in set(ids[1:-1])]
    else:
        said, x = [], seen[None]
        for word in ids[1:]:
            read = model.transformer((x + model.positional_embedding[: len(x)])[None])[0, -1]
            said.append(math.log((embedding @ model.ln_final(read)).softmax(0)[word]))
            x = torch.cat([x, embedding[word][None]])
    return sum(said) / (len(said) if per_token else 1)


@pytest.mark.property
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("room", [likelihood.LOGITS, 1])
def test_scores_are_those_of_brute_force(model, per_token, room, monkeypatch):
    monkeypatch.setattr(likelihood, "LOGITS", room)
    images = torch.randn(3, 3, 16, 16)
    found = Likelihoods(model, ROWS, per_token=per_token)(images)
    with torch.no_grad():
        for image, scores in zip(images, found.tolist(), strict=True):
            for row, score in zip(ROWS, scores, strict=True):
                each = [math.exp(brute(model, image, prompt, per_token)) for prompt in row]
                assert score == pytest.approx(math.log(sum(each) / len(row)), abs=2e-4)


class Grey:
    """Six grey pictures of three classes."""

    identity, class_names, shard_sizes = "grey", ("cat", "dog", "owl"), (6,)

    def __len__(self) -> int:
        return 6

    def read(self, index: int) -> Sample:
        image = np.full((16, 16, 3), 40 * index, dtype=np.uint8)
        return Sample(str(index), image, (), index % 3)

    def captions(self, index: int) -> tuple[str, ...]:
        return ()

    def place(self, index: int) -> str:
        return "here"


@pytest.mark.behaviour
def test_classification_asks_for_likelihoods(model):
    result = classify(model, Grey(), Prompting(("a {}", "one {}")), Pictures(threads=1))
    rows = [["a cat", "one cat"], ["a dog", "one dog"], ["an owl", "one owl"]]
    images = torch.stack([torch.full((3, 16, 16), 40 * n, dtype=torch.uint8) for n in range(6)])
    expected = Likelihoods(model, rows)(model.preprocess.normalize(images))
    torch.testing.assert_close(result.logits, expected)
    assert result.metrics()["chance"] == pytest.approx(1 / 3)
    means = classify(model, Grey(), Prompting(("a {}",), per_token=True), Pictures(threads=1))
    assert (means.logits > result.logits).all()
    assert (result.scores, means.scores) == ("likelihood", "likelihood per token")
    who, what = identify_model(model, "m"), identify_data(Grey(), "grey")
    records = [
        zero_shot_record(one, Origin.of(model, who, {"test": what})) for one in (result, means)
    ]
    named = [one.name for one in differences(*records)]
    assert "settings.scores" in named, "two ways to score are not one figure"


@pytest.mark.behaviour
def test_a_model_that_compares_has_no_likelihoods(tiny_vit, random_pretrained):
    with pytest.raises(ConfigError, match="predicts no texts"):
        Likelihoods(random_pretrained(tiny_vit), ROWS)
    with pytest.raises(ConfigError, match="leave per_token out"):
        classify(random_pretrained(tiny_vit), Grey(), Prompting(per_token=True))
