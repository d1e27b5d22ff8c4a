"""bifocal and OpenAI's own package `clip`, on the files that bifocal writes for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import bifocal.compat.clip as face
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop.convert import Target, write
from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)
from bifocal.pretrained import Pretrained

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

TEXT = TextConfig(width=64, layers=11, heads=1)
VISION = {
    "vit": VisionTransformerConfig(image_size=32, patch_size=16, width=128, layers=2, heads=2),
    "resnet": ModifiedResNetConfig(image_size=64, width=4, layers=(1, 2, 1, 1), heads=2),
}
TEXTS = ["", "a photo of a cat", "it&apos;s â€œquotedâ€\u009d — naïve 猫 😀 12", "word " * 75]


@pytest.fixture(params=VISION)
def written(
    request, vocabulary: Path, random_clip: Callable, tmp_path: Path, monkeypatch
) -> tuple[Pretrained, str]:
    """A model, and the file that bifocal wrote for OpenAI's package."""
    monkeypatch.setenv(face.VOCABULARY, str(vocabulary))
    face.published_tokenizer.cache_clear()
    config = CLIPConfig(embed_dim=24, vision=VISION[request.param], text=TEXT)
    preprocess = Preprocess(image_size=config.vision.image_size)
    model = Pretrained(random_clip(config), Tokenizer.load(vocabulary), preprocess)
    write(model, tmp_path / "model.pt", Target.OPENAI, "a test")
    return model, str(tmp_path / "model.pt")


def test_the_same_program_gives_the_same_numbers(
    written: tuple[Pretrained, str], openai: ModuleType, picture: Image.Image, assert_close
) -> None:
    model, path = written
    seen = []
    # `clip.load` of a state dict fails on its own (it reads the file twice without rewinding), so
    # its two steps are taken here; `build_model` rounds to half precision, whatever the device.
    state = torch.load(path, weights_only=True)
    network = openai.model.build_model(state).float()
    network.load_state_dict(state)
    pairs = [
        face.load(path, "cpu"),
        (network, openai.clip._transform(network.visual.input_resolution)),
    ]
    for package, (network, preprocess) in zip((face, openai), pairs, strict=True):
        image = preprocess(picture).unsqueeze(0)
        tokens = package.tokenize(TEXTS)
        with torch.no_grad():
            features = network.encode_image(image), network.encode_text(tokens)
            seen.append((image, tokens, *features, *network(image, tokens)))
        assert network.visual.input_resolution == model.preprocess.image_size
        assert network.dtype == torch.float32
    mine, theirs = seen
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[1], theirs[1])
    assert mine[1].dtype == theirs[1].dtype
    for one, other in zip(mine[2:], theirs[2:], strict=True):
        assert_close(one, other)


def test_a_traced_archive_of_its_model_loads_to_the_same_features(
    written: tuple[Pretrained, str], openai: ModuleType, tmp_path: Path, assert_close
) -> None:
    model, path = written
    network = openai.model.build_model(torch.load(path, weights_only=True)).float()
    size = model.preprocess.image_size
    images, tokens = torch.randn(3, 3, size, size), openai.tokenize(["a", "cat", "word " * 75])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, (images, tokens)).save(str(tmp_path / "traced.pt"))
    found, _ = face.load(str(tmp_path / "traced.pt"), "cpu")
    with torch.no_grad():
        assert_close(found.encode_image(images), network.encode_image(images))
        assert_close(found.encode_text(tokens), network.encode_text(tokens))
        assert_close(found(images, tokens)[0], network(images, tokens)[0])


def test_overflow_is_the_same_error(written: tuple[Pretrained, str], openai: ModuleType) -> None:
    for package in (face, openai):
        with pytest.raises(RuntimeError, match="77"):
            package.tokenize("word " * 76)
    long = "word " * 90
    mine, theirs = (package.tokenize(long, truncate=True) for package in (face, openai))
    assert torch.equal(mine, theirs)


def test_names_are_openais(openai: ModuleType) -> None:
    assert set(openai.available_models()) <= set(face.available_models())
