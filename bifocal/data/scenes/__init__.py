"""Built-in data: pictures of coloured shapes with captions, drawn on the fly from a seed.

Knows: a small world whose every fact is plain to see and to say, with a quarter of its
(colour, shape) pairs kept out of training. Must not know: loading, batching, training.
"""

from bifocal.data.scenes.binding import BindingPair, binding_pairs
from bifocal.data.scenes.classes import TEMPLATES, class_names, unseen_classes
from bifocal.data.scenes.source import SceneClassSource, SceneSource
from bifocal.data.scenes.vocabulary import held_out_pairs

__all__ = [
    "TEMPLATES",
    "BindingPair",
    "SceneClassSource",
    "SceneSource",
    "binding_pairs",
    "class_names",
    "held_out_pairs",
    "unseen_classes",
]
