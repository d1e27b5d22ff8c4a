"""Files as other programs write them: TorchScript archives, pickles that attack."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_server import server
from torch import Tensor, nn

from bifocal.model.config import (
    CLIPConfig,
    ModifiedResNetConfig,
    TextConfig,
    VisionTransformerConfig,
)

__all__ = ["server"]


@pytest.fixture(params=["vit", "resnet"])
def published_like(request: pytest.FixtureRequest) -> CLIPConfig:
    """A small architecture whose heads are 64 wide, as those of OpenAI's layout are."""
    vision = {
        "vit": VisionTransformerConfig(image_size=32, patch_size=16, width=128, layers=2, heads=2),
        "resnet": ModifiedResNetConfig(image_size=64, width=4, layers=(1, 2, 1, 1), heads=2),
    }
    text = TextConfig(context_length=9, vocab_size=530, width=64, layers=11, heads=1)
    return CLIPConfig(embed_dim=24, vision=vision[request.param], text=text)


class Tree(nn.Module):
    """A module that holds tensors under dotted names, and computes next to nothing."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        children: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            head, dot, rest = name.partition(".")
            if dot:
                children.setdefault(head, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(name, tensor)
        for name, inner in children.items():
            self.add_module(name, Tree(inner))

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.fixture
def save_torchscript() -> Callable[[dict[str, Tensor], Path], None]:
    """Return what writes a state dict as OpenAI published its models: a traced archive."""

    def save(state: dict[str, Tensor], path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated; OpenAI's files are of it
            torch.jit.trace(Tree(state), torch.zeros(1)).save(str(path))

    return save
