"""bifocal: CLIP as a complete system. An image tower and a text tower in one embedding space.

import bifocal
clip = bifocal.load("runs/demo")
clip.encode_image(["cat.jpg"])               # "batch embed_dim", unit norm
clip.zero_shot(["cat", "dog"])(["cat.jpg"])  # probabilities
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bifocal.errors import BifocalError
    from bifocal.inputs.preprocess import Preprocess
    from bifocal.inputs.tokenizer import Tokenizer
    from bifocal.interop.load import load
    from bifocal.model import zoo
    from bifocal.model.clip import CLIP
    from bifocal.model.config import CLIPConfig
    from bifocal.pretrained import Pretrained, ZeroShotClassifier

__version__ = "0.1.0"

__all__ = [
    "CLIP",
    "BifocalError",
    "CLIPConfig",
    "Preprocess",
    "Pretrained",
    "Tokenizer",
    "ZeroShotClassifier",
    "load",
    "zoo",
]

_WHERE = {
    "BifocalError": "errors",
    "CLIP": "model.clip",
    "CLIPConfig": "model.config",
    "Preprocess": "inputs.preprocess",
    "Pretrained": "pretrained",
    "Tokenizer": "inputs.tokenizer",
    "ZeroShotClassifier": "pretrained",
    "load": "interop.load",
}


def __getattr__(name: str) -> object:
    # Found when asked for: torch takes more than a second to import, and help needs none of it.
    if name == "zoo":
        return import_module("bifocal.model.zoo")
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"bifocal.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
