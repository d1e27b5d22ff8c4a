"""bifocal: CLIP as a complete system. An image tower and a text tower in one embedding space.

import bifocal
clip = bifocal.load("runs/demo")
clip.encode_image(["cat.jpg"])               # "batch embed_dim", unit norm
clip.zero_shot(["cat", "dog"])(["cat.jpg"])  # probabilities
"""

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
