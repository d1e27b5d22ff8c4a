"""Identities are of content alone, and say where two of them differ."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from bifocal.data.scenes import SceneSource
from bifocal.identity import (
    fingerprint,
    hash_tensors,
    hash_tokenizer,
    identify_data,
    identify_model,
    unlike,
)


@pytest.mark.property
def test_identities_are_of_content_alone(tiny_vit, random_pretrained):
    one, two = random_pretrained(tiny_vit, 0), random_pretrained(tiny_vit, 1)
    first = identify_model(one, "a")
    assert first == identify_model(random_pretrained(tiny_vit, 0), "a")
    other = identify_model(two, "a")
    assert first.weights != other.weights
    assert (first.config, first.tokenizer, first.transform) == (
        other.config,
        other.tokenizer,
        other.transform,
    )
    state = {"a": torch.zeros(4), "b": torch.ones(2)}
    assert hash_tensors(state) == hash_tensors(dict(reversed(state.items())))
    assert hash_tensors(state) != hash_tensors({"a": torch.zeros(2, 2), "b": torch.ones(2)})
    assert hash_tensors(state) != hash_tensors({"a": torch.zeros(4), "b": torch.ones(2).half()})
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    tokenizer = one.tokenizer
    shorter = type(tokenizer)(tokenizer.merges, tokenizer.context_length - 1)
    assert hash_tokenizer(shorter) != hash_tokenizer(tokenizer)


@pytest.mark.behaviour
def test_the_limit_is_part_of_the_data():
    source = SceneSource(7, 0, 16, split="val")
    assert identify_data(source, "x").samples == 7
    assert identify_data(source, "x", limit=5).samples == 5
    assert identify_data(source, "x", limit=9).samples == 7


@pytest.mark.behaviour
def test_what_is_unlike_is_named_and_names_are_not(tiny_vit, random_pretrained):
    first, second = (
        {"model": asdict(identify_model(random_pretrained(tiny_vit, seed), f"runs/{seed}"))}
        for seed in (0, 1)
    )
    assert unlike(first, first) == []
    (said,) = unlike(first, second)
    assert said.startswith("model weights ")
    assert "… instead of " in said
    second["model"]["transform"]["resize"] = "pillow"
    assert "model transform resize None instead of pillow" in unlike(first, second)
