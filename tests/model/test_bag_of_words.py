"""Texts without order, and captions that see the picture and what is before them."""

from __future__ import annotations

import pytest
import torch

from bifocal.errors import ConfigError
from bifocal.model.bag_of_words import BagOfWordsCLIP, word_logits, word_mask
from bifocal.model.build import build_model
from bifocal.model.captioner import caption_logits
from bifocal.model.clip import CLIP
from bifocal.model.config import BagOfWordsConfig

END = 599
ROWS = torch.tensor(
    [[598, 7, 8, 7, END, 0, 0], [598, 8, 7, 7, END, 3, 9], [598, END, 0, 0, 0, 0, 0]]
)


@pytest.fixture
def bag(tiny_vit):
    text = BagOfWordsConfig(context_length=12, vocab_size=600, width=20)
    model = BagOfWordsCLIP(tiny_vit.model_copy(update={"text": text}), seed=3)
    return model.eval()


@pytest.mark.golden
def test_text_features_are_the_projected_mean_of_the_words(bag):
    # Origin: the mean of the embeddings of 7, 8 and 7, by hand.
    embedding = bag.token_embedding.weight
    mean = (2 * embedding[7] + embedding[8]) / 3
    torch.testing.assert_close(bag.read_text(ROWS)[0], mean @ bag.text_projection)
    assert word_mask(ROWS).sum(dim=1).tolist() == [3, 3, 0]


@pytest.mark.property
def test_neither_order_nor_what_follows_the_end_counts(bag):
    features = bag.read_text(ROWS)
    torch.testing.assert_close(features[0], features[1])
    assert torch.equal(features[2], torch.zeros_like(features[2]))
    gradient = torch.autograd.grad(bag.encode_text(ROWS).sum(), bag.token_embedding.weight)[0]
    assert torch.isfinite(gradient).all()
    assert set(gradient.abs().sum(dim=1).nonzero()[:, 0].tolist()) == {7, 8}


@pytest.mark.property
def test_word_logits_are_products_of_features(bag):
    image = torch.randn(2, 16)
    with torch.no_grad():
        rows = [w @ bag.text_projection for w in bag.token_embedding.weight]
        expected = torch.tensor([[float(x @ row) for row in rows] for x in image])
    torch.testing.assert_close(word_logits(bag, image), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.property
def test_a_caption_sees_the_picture_and_what_is_before(tiny_vit, random_clip):
    model = random_clip(tiny_vit)
    image = torch.randn(3, 16)
    tokens = torch.randint(1, 598, (3, 8))
    tokens[:, 0], tokens[:, -1] = 598, END
    with torch.no_grad():
        logits = caption_logits(model, image, tokens)
        assert logits.shape == (3, 7, 600)
        other = tokens.clone()
        other[:, 4] = 5
        moved = (caption_logits(model, image, other) - logits).abs().amax(dim=(0, 2))
        assert (moved[:4] < 1e-5).all(), "nothing is told of what comes"
        assert (moved[4:] > 1e-4).all()
        seen = (caption_logits(model, image + 1, tokens) - logits).abs().amax(dim=(0, 2))
        assert (seen > 1e-4).all(), "every place sees the picture"
    with pytest.raises(ConfigError, match="captions of 13 tokens"):
        caption_logits(model, image, torch.ones(3, 13, dtype=torch.int64))


@pytest.mark.behaviour
def test_an_architecture_makes_its_own_kind_of_model(tiny_vit, bag):
    assert isinstance(build_model(tiny_vit), CLIP)
    again = build_model(bag.config, seed=3)
    assert isinstance(again, BagOfWordsCLIP)
    assert all(torch.equal(again.state_dict()[n], t) for n, t in bag.state_dict().items())
    with pytest.raises(ConfigError, match=r"model\.text\.kind=transformer"):
        CLIP(bag.config)
    with pytest.raises(ConfigError, match=r"model\.text\.kind=bag_of_words"):
        BagOfWordsCLIP(tiny_vit)
