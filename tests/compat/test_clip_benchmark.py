"""The loader of CLIP_benchmark: its three parts say what the model itself says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from bifocal.compat import clip_benchmark
from bifocal.compat.pictures import Transform
from bifocal.errors import CheckpointError, ConfigError
from bifocal.evaluate.opening import as_read_by


@pytest.fixture
def saved(tmp_path: Path, tiny, random_pretrained) -> Path:
    random_pretrained(tiny).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parity
def test_model_transform_and_tokenizer_belong_together(saved, tiny, random_pretrained):
    model, transform, tokenizer = clip_benchmark.load("any name", str(saved), None, "cpu")
    assert not model.training
    pretrained = random_pretrained(tiny)
    size = tiny.vision.image_size
    # Of the model's own size, so that no resize comes between.
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in pixels]
    texts = ["a red square", "two dogs and a very long text that is cut somewhere"]
    with torch.no_grad():
        image = model.encode_image(torch.stack([transform(one) for one in pictures]))
        text = model.encode_text(tokenizer(texts).to("cpu"))
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(image, dim=-1), pretrained.encode_image(pictures))
    torch.testing.assert_close(unit(text, dim=-1), pretrained.encode_text(texts))


@pytest.mark.parity
@pytest.mark.parametrize("shape", [(16, 16), (40, 29), (9, 23), (33, 16), (17, 100), (240, 21)])
def test_the_protocol_reads_pictures_as_the_loader_does(tiny_vit, random_pretrained, shape):
    pretrained = as_read_by(random_pretrained(tiny_vit), "clip_benchmark")
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    read = pretrained.preprocess.fit(torch.from_numpy(pixels).permute(2, 0, 1))
    plain = pretrained.preprocess
    transform = Transform(plain.image_size, plain.mean, plain.std)
    torch.testing.assert_close(
        plain.normalize(read[None])[0], transform(Image.fromarray(pixels)), rtol=0, atol=1e-6
    )
    assert as_read_by(random_pretrained(tiny_vit), "paper").preprocess.model_dump().keys() == (
        plain.model_dump().keys() - {"resize"}
    )


@pytest.mark.behaviour
def test_the_name_is_the_model_where_no_weights_are_named(saved):
    by_name = clip_benchmark.load(str(saved))[0].state_dict()
    by_weights = clip_benchmark.load("", str(saved))[0].state_dict()
    assert all(torch.equal(by_name[name], by_weights[name]) for name in by_weights)
    with pytest.raises(CheckpointError, match="no file or folder 'nowhere'"):
        clip_benchmark.load("x", "nowhere")


@pytest.mark.behaviour
def test_published_names_of_open_clip_are_loaded(served):
    model, transform, tokenizer = clip_benchmark.load("ViT-B-32", "laion2b_s34b_b79k")
    config = served["laion"].model.config
    assert model.config.vision == config.vision
    assert tokenizer.context_length == 77
    assert transform.size == config.vision.image_size


@pytest.mark.behaviour
def test_the_loader_is_entered_once():
    package = ModuleType("models")
    vars(package).update(TYPE2FUNC={"open_clip": print}, MODEL_TYPES=["open_clip"])
    for _ in range(2):
        clip_benchmark.register(package)
    assert package.MODEL_TYPES == ["open_clip", "bifocal"]
    assert package.TYPE2FUNC["bifocal"] is clip_benchmark.load
    with pytest.raises(ConfigError, match="no table of loaders"):
        clip_benchmark.register(ModuleType("models"))


@pytest.mark.behaviour
def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    with pytest.raises(SystemExit, match=r"error: .*pip install clip_benchmark"):
        clip_benchmark.main()
