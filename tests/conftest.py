"""What every test gets: run-time shape checks, no network, and the same random numbers.

Shapes live in signatures (jaxtyping); here, and only here, beartype holds every call to them. The
hook must be in place before bifocal is first imported, hence at the top of this file.
"""

# ruff: noqa: E402 - imports of bifocal must follow the hook

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["COLUMNS"] = "80"
# Tiny models lose more to handing over between threads than they win; so do processes of tests.
os.environ["OMP_NUM_THREADS"] = "1"
_CACHE = tempfile.TemporaryDirectory(prefix="bifocal-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
install_import_hook("bifocal", "beartype.beartype")

import hypothesis
import pytest
import torch

from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import BASE_SIZE, Tokenizer
from bifocal.interop.vocabulary import PUBLISHED_FILE, shipped_vocabulary
from bifocal.model.clip import CLIP
from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)
from bifocal.pretrained import Pretrained

torch.set_num_threads(1)

# A property is tried on the same examples every time, so that a red suite is red for everyone.
hypothesis.settings.register_profile(
    "bifocal",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("bifocal")


LONG = ("train", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms of the longest tests, so that several workers end together."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a user's BIFOCAL_DATA from deciding where a test's relative paths start."""
    monkeypatch.delenv("BIFOCAL_DATA", raising=False)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Leave run-time shape checks out where the same calls come by the thousand.

    They take half of such a test's time; the calls are checked where others make them.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _real_data() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("BIFOCAL_DATA") or beside)


REAL_DATA = _real_data()


@pytest.fixture
def photographs() -> Path:
    """Folder of the real data sets (flickr8k, cifar10), which are not in the repository."""
    if not (REAL_DATA / "flickr8k").is_dir():
        pytest.skip(f"no flickr8k in {REAL_DATA}: set BIFOCAL_DATA to where it is")
    return REAL_DATA


TINY_VIT = CLIPConfig(
    embed_dim=16,
    vision=VisionTransformerConfig(image_size=16, patch_size=8, width=24, layers=2, heads=2),
    text=TextConfig(context_length=12, vocab_size=600, width=16, layers=2, heads=2),
)
TINY_RESNET = CLIPConfig(
    embed_dim=16,
    vision=ModifiedResNetConfig(image_size=32, width=4, layers=(1, 2, 1, 1), heads=4),
    text=TextConfig(context_length=12, vocab_size=600, width=16, layers=1, heads=2),
)


@pytest.fixture
def tiny_vit() -> CLIPConfig:
    return TINY_VIT


@pytest.fixture
def tiny_resnet() -> CLIPConfig:
    return TINY_RESNET


@pytest.fixture(params=[TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def tiny(request: pytest.FixtureRequest) -> CLIPConfig:
    """Both image towers, one after the other."""
    return request.param


def _random_clip(config: CLIPConfig, seed: int = 0) -> CLIP:
    """Return a model none of whose tensors is at a round value, normalisation included."""
    model = CLIP(config, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else 0.02 * noise)
    return model


def _random_pretrained(config: CLIPConfig, seed: int = 0) -> Pretrained:
    """Return a random model with a vocabulary and a preprocessing that fit it."""
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    pairs = [(a, b) for a in letters for b in letters]
    merges = pairs[: config.text.vocab_size - BASE_SIZE]
    tokenizer = Tokenizer(merges, config.text.context_length)
    preprocess = Preprocess(image_size=config.vision.image_size)
    return Pretrained(_random_clip(config, seed), tokenizer, preprocess)


@pytest.fixture
def random_clip() -> Callable[..., CLIP]:
    return _random_clip


@pytest.fixture
def random_pretrained() -> Callable[..., Pretrained]:
    return _random_pretrained


@pytest.fixture(scope="session")
def vocabulary() -> Path:
    """Path of OpenAI's vocabulary, which is not in the repository."""
    places = [REAL_DATA / PUBLISHED_FILE, shipped_vocabulary()]
    for path in places:
        if path is not None and path.is_file():
            return path
    pytest.skip(f"no {PUBLISHED_FILE} in {REAL_DATA}: set BIFOCAL_DATA to where it is")
