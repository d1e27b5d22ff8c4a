"""What every test gets: run-time shape checks, no network, and the same random numbers.

Shapes live in signatures (jaxtyping); here, and only here, beartype holds every call to them. The
hook must be in place before bifocal is first imported, hence at the top of this file.
"""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["COLUMNS"] = "80"
install_import_hook("bifocal", "beartype.beartype")

import hypothesis
import pytest
import torch

from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)

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


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a user's BIFOCAL_DATA from deciding where a test's relative paths start."""
    monkeypatch.delenv("BIFOCAL_DATA", raising=False)


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
