"""Kept classifiers: found again only where nothing differs, whole or not at all, bounded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bifocal.evaluate.classifier import Prompting, build_head
from bifocal.evaluate.classifier_cache import ClassifierCache, classifier_key, user_cache
from bifocal.evaluate.protocol import CLIP_BENCHMARK
from bifocal.pretrained import Pretrained

ROWS = [["a cat", "my cat"], ["a dog"]]


@pytest.fixture
def clip(tiny_vit, random_pretrained):
    return random_pretrained(tiny_vit)


def built(clip, cache, rows=ROWS) -> torch.Tensor:
    return build_head(clip, rows, Prompting(cache=cache)).weights


@pytest.mark.behaviour
def test_a_classifier_is_built_once(clip, tmp_path: Path, monkeypatch):
    cache = ClassifierCache(tmp_path / "new")
    first = built(clip, cache)
    assert torch.equal(first, clip.class_weights(ROWS))
    monkeypatch.setattr(Pretrained, "class_weights", None)
    assert torch.equal(built(clip, cache), first)
    with pytest.raises(TypeError):
        built(clip, None)
    with pytest.raises(TypeError):
        built(clip, cache, [["a cat", "my cat"], ["a Dog"]])


@pytest.mark.behaviour
def test_the_key_is_of_all_that_decides_and_of_nothing_else(clip, tiny_vit, random_pretrained):
    key = classifier_key(clip, ROWS)
    assert key == classifier_key(random_pretrained(tiny_vit), [tuple(row) for row in ROWS])
    with torch.no_grad():
        clip.model.logit_scale.add_(1)
        clip.model.visual.conv1.weight.add_(1)
    assert classifier_key(clip, ROWS) == key
    # The same prompts, shared out otherwise.
    assert classifier_key(clip, [["a cat"], ["my cat", "a dog"]]) != key
    assert classifier_key(random_pretrained(tiny_vit, seed=1), ROWS) != key
    gelu = tiny_vit.model_copy(update={"activation": "gelu"})
    assert gelu.activation != tiny_vit.activation
    assert classifier_key(random_pretrained(gelu), ROWS) != key
    merges = (*clip.tokenizer.merges[1:], clip.tokenizer.merges[0])
    other = type(clip.tokenizer)(merges, clip.tokenizer.context_length)
    assert classifier_key(replace(clip, tokenizer=other), ROWS) != key
    with torch.no_grad():
        clip.model.ln_final.bias[0] += 1e-6
    assert classifier_key(clip, ROWS) != key


@pytest.mark.behaviour
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "folder"])
def test_a_damaged_classifier_is_built_anew(clip, tmp_path: Path, damage, caplog):
    cache = ClassifierCache(tmp_path)
    first = built(clip, cache)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(data[:-3])
        case "flip":
            # The last byte is of the weights or of their sum; either is found out.
            data[-1] ^= 1
            path.write_bytes(data)
        case "empty":
            path.write_bytes(b"")
        case "other":
            cache.write("0" * 64, torch.zeros(3, 2))
            path.write_bytes((tmp_path / f"{'0' * 64}.safetensors").read_bytes())
        case "folder":
            path.unlink()
            path.mkdir()
    assert torch.equal(built(clip, cache), first)
    assert "built anew" in caplog.text
    if damage != "folder":
        caplog.clear()
        assert torch.equal(built(clip, cache), first)
        assert not caplog.text


@pytest.mark.behaviour
def test_the_folder_is_bounded_and_what_is_not_ours_is_left(tmp_path: Path):
    (tmp_path / "mine.safetensors").write_bytes(b"x" * 9999)
    cache = ClassifierCache(tmp_path, max_bytes=3000)
    weights = torch.randn(8, 16)
    for n in range(5):
        key = f"{n:064d}"
        cache.write(key, weights + n)
        os.utime(tmp_path / f"{key}.safetensors", (n, n))
        if n == 2:
            # Used again: now the newest.
            assert cache.read(f"{0:064d}", 8, 16) is not None
    left = sorted(path.stem[-1] for path in tmp_path.iterdir())
    assert "0" in left
    assert "e" in left
    assert "1" not in left
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) - 9999
    assert 0 < size <= 3000
    cache.write(f"{7:064d}", torch.randn(100, 100))
    assert cache.read(f"{7:064d}", 100, 100) is None


@pytest.mark.behaviour
def test_a_folder_that_cannot_be_written_is_told_and_passed_over(clip, tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    found = built(clip, ClassifierCache(tmp_path / "file" / "under"))
    assert torch.equal(found, clip.class_weights(ROWS))
    assert "cannot keep the classifier" in caplog.text


@pytest.mark.behaviour
def test_the_scale_is_the_protocols_and_not_the_caches(clip, tmp_path: Path, monkeypatch):
    cache = ClassifierCache(tmp_path)
    plain = build_head(clip, ROWS, Prompting(cache=cache))
    theirs = build_head(clip, ROWS, Prompting(cache=cache, protocol=CLIP_BENCHMARK))
    assert plain.logit_scale.item() == pytest.approx(clip.model.logit_scale.exp().item())
    assert theirs.logit_scale == 100
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "bifocal" / "classifiers"
