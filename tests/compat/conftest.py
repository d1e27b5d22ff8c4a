"""A hub that serves small models under the peers' names, and the published vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub, server
from PIL import Image

import bifocal.compat.clip as clip
from bifocal.compat.open_clip_tags import TAGS
from bifocal.inputs import tokenizer as inputs
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.interop import hub, huggingface, open_clip
from bifocal.interop import vocabulary as files
from bifocal.model.config import CLIPConfig, TextConfig
from bifocal.pretrained import Pretrained

__all__ = ["server"]

TEXT = TextConfig(width=16, layers=1, heads=2)
_pair = functools.cache(inputs._pair)
_plain_merge = files._merge
_merges: dict[str, tuple[str, str]] = {}


def _merge(entry: str | list[str]) -> tuple[str, str]:
    key = entry if isinstance(entry, str) else "\n".join(entry)
    if key not in _merges:
        _merges[key] = _plain_merge(entry)
    return _merges[key]


_FILES: dict[str, dict[str, bytes]] = {}
"""What the hub serves; written once, since every test has the same random weights."""


@pytest.fixture
def published(vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokenizer]:
    """The published tokenizer, given to the faces by its path."""
    monkeypatch.setenv(clip.VOCABULARY, str(vocabulary))
    # Checked types make a second of the 49,000 lines; they are the same ones in every test.
    monkeypatch.setattr(inputs, "_pair", _pair)
    monkeypatch.setattr(files, "_merge", _merge)
    clip.published_tokenizer.cache_clear()
    yield clip.published_tokenizer()
    clip.published_tokenizer.cache_clear()


@pytest.fixture
def served(
    server: Hub,
    published: Tokenizer,
    tiny_vit: CLIPConfig,
    tiny_resnet: CLIPConfig,
    random_clip: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> dict[str, Pretrained]:
    """Small models under published names, as a hub in this process serves them."""
    from huggingface_hub import constants, file_download

    gelu = tiny_vit.model_copy(update={"activation": "gelu"})
    repositories = {
        "ViT-B/32": (hub.REPOSITORIES["ViT-B/32"], tiny_vit, huggingface),
        "RN50": (hub.REPOSITORIES["RN50"], tiny_resnet, open_clip),
        "laion": (TAGS["ViT-B-32"]["laion2b_s34b_b79k"], gelu, open_clip),
    }
    models: dict[str, Pretrained] = {}
    for name, (repository, config, writer) in repositories.items():
        config = config.model_copy(update={"text": TEXT})
        preprocess = Preprocess(image_size=config.vision.image_size)
        models[name] = Pretrained(random_clip(config), published, preprocess)
        if repository not in _FILES:
            folder = tmp_path / "remote" / repository
            writer.write(models[name], folder)
            _FILES[repository] = {p.name: p.read_bytes() for p in folder.iterdir()}
        server.repositories[repository] = _FILES[repository]
    for module in (constants, file_download):
        if hasattr(module, "HF_HUB_CACHE"):
            monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return models


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a few pictures, one of them with a palette and one with transparency."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, mode in enumerate(("RGB", "L", "P", "RGBA")):
        picture = Image.effect_mandelbrot((40 + n, 30), (-2, -1.5, 1, 1.5), 100 + n)
        picture.convert(mode).save(folder / f"{mode}.png")
    return folder
