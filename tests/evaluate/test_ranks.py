"""Ranks by tiles against brute force over the whole matrix, tied and broken scores included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bifocal.evaluate.metrics import rank_of_best
from bifocal.evaluate.ranks import Relevance, rank_both

# Few distinct values, so that many scores tie; some are no number, as a diverged model has them.
value = st.sampled_from([-1.0, 0.0, 1.0, 1.0, 2.0, math.nan])


@st.composite
def collections(draw: st.DrawFn):
    images, texts = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    features = [
        draw(st.lists(st.lists(value, min_size=2, max_size=2), min_size=n, max_size=n))
        for n in (images, texts)
    ]
    some = st.integers(0, 3)
    return (
        *(torch.tensor(one) for one in features),
        torch.tensor(draw(st.lists(st.integers(0, images - 1), min_size=texts, max_size=texts))),
        torch.tensor(draw(st.lists(some, min_size=images, max_size=images))),
        torch.tensor(draw(st.lists(some, min_size=texts, max_size=texts))),
    )


def brute_force(owners, image_groups, text_groups):
    """Text t describes image i if some text equal to t is written under an image equal to i."""
    found = torch.zeros(len(image_groups), len(text_groups), dtype=torch.bool)
    for i, image in enumerate(image_groups):
        for t, text in enumerate(text_groups):
            found[i, t] = any(
                image_groups[owner] == image and other == text
                for owner, other in zip(owners, text_groups, strict=True)
            )
    return found


@pytest.mark.property
@given(case=collections(), tile=st.integers(1, 13), alone=st.booleans())
def test_tiles_rank_as_the_whole_matrix_does(case, tile, alone):
    images, texts, owners, image_groups, text_groups = case
    if alone:
        image_groups, text_groups = torch.arange(len(images)), torch.arange(len(texts))
    relevance = Relevance.of(owners, image_groups, text_groups)
    relevant = brute_force(owners, image_groups, text_groups)
    assert torch.equal(relevance.mask(slice(None), slice(None)), relevant)
    found = rank_both(images, texts, relevance, tile)
    scores = images @ texts.T
    assert torch.equal(found.image_to_text, rank_of_best(scores, relevant))
    assert torch.equal(found.text_to_image, rank_of_best(scores.T, relevant.T))
    by_image, by_text = relevance.counts()
    assert torch.equal(by_image, relevant.sum(dim=1))
    assert torch.equal(by_text, relevant.sum(dim=0))


@pytest.mark.property
@pytest.mark.parametrize("tile", [7, 64, 1024])
@pytest.mark.parametrize("width", [64, 512])
def test_equal_features_tie_wherever_they_stand_in_a_tile(tile, width):
    # One picture 127 times: a caption finds its own behind all others, to the last bit. Products in
    # float32 differ with a row's place in the tile, and some captions would find it earlier.
    one = torch.nn.functional.normalize(torch.randn(1, width), dim=1)
    images = one.expand(127, -1).contiguous()
    texts = torch.nn.functional.normalize(torch.randn(61, width), dim=1)
    owners, alone = torch.arange(61), torch.arange(127)
    found = rank_both(images, texts, Relevance.of(owners, alone, torch.arange(61)), tile)
    assert found.text_to_image.tolist() == [126] * 61
    same = Relevance.of(owners, torch.zeros_like(alone), torch.arange(61))
    assert rank_both(images, texts, same, tile).text_to_image.tolist() == [0] * 61


@pytest.mark.behaviour
def test_the_whole_matrix_is_never_held(monkeypatch):
    sizes: list[int] = []
    ask = Relevance.mask

    def watched(self, rows, columns):
        found = ask(self, rows, columns)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(Relevance, "mask", watched)
    owners = torch.arange(300) % 100
    relevance = Relevance.of(owners, torch.arange(100), torch.arange(300))
    rank_both(torch.randn(100, 4), torch.randn(300, 4), relevance, 32)
    assert max(sizes) == 32 * 32
    assert sum(sizes) == 2 * 100 * 300
