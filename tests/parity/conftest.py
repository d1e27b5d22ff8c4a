"""The peers, imported where they are installed, and what is compared with them.

    PYTHONPATH=. PEERS/bin/python -m pytest tests/parity          tiny sizes, seconds
    BIFOCAL_PUBLISHED_SIZES=1 PYTHONPATH=. PEERS/bin/python -m pytest tests/parity    all nine

where PEERS is the environment that shared/peers/setup.sh builds, with bifocal's own requirements
installed beside them. Without the peers every test here is skipped.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType

import pytest
import torch
from PIL import Image
from torch import Tensor

RELATIVE = 1e-5
"""Largest relative difference of features in float32."""


def peer(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed beside bifocal: see tests/parity/conftest.py")


@pytest.fixture(scope="session")
def open_clip() -> ModuleType:
    return peer("open_clip")


@pytest.fixture(scope="session")
def openai() -> ModuleType:
    """OpenAI's package, `clip`."""
    return peer("clip")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    return peer("transformers")


@pytest.fixture
def published_sizes() -> None:
    if not os.environ.get("BIFOCAL_PUBLISHED_SIZES"):
        pytest.skip("published sizes take minutes: set BIFOCAL_PUBLISHED_SIZES=1")


@pytest.fixture
def picture() -> Image.Image:
    """A picture with edges, gradients and noise, wider than high."""
    rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(97.0), indexing="ij")
    waves = torch.stack([rows.sin(), (columns / 9).cos(), (rows * columns / 400).sin()])
    levels = ((waves + torch.rand(waves.shape) / 3 + 1) * 110).clamp(0, 255).byte()
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


def relative(one: Tensor, other: Tensor) -> float:
    """Return the norm of the difference over the norm, of the worst row."""
    one, other = one.detach().double().flatten(1), other.detach().double().flatten(1)
    return float(((one - other).norm(dim=1) / other.norm(dim=1)).max())


@pytest.fixture
def assert_close():
    def check(one: Tensor, other: Tensor, bound: float = RELATIVE) -> None:
        assert one.shape == other.shape
        found = relative(one, other)
        print(f"relative difference {found:.1e}, at most {bound:.0e}")
        assert found <= bound

    return check
