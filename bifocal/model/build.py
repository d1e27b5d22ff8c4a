"""From an architecture to a model, whatever its text tower."""

from __future__ import annotations

from bifocal.model.bag_of_words import BagOfWordsCLIP
from bifocal.model.clip import CLIP, TwoTowers
from bifocal.model.config import BagOfWordsConfig, CLIPConfig, TextConfig


def build_model(config: CLIPConfig, seed: int = 0) -> TwoTowers:
    """Return the model of an architecture, its weights drawn from the seed."""
    match config.text:
        case TextConfig():
            return CLIP(config, seed)
        case BagOfWordsConfig():
            return BagOfWordsCLIP(config, seed)
