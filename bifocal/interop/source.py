"""What a source of weights may leave unsaid, and how its parts become one `Pretrained`.

Knows how parts are checked against each other; knows nothing of file formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bifocal.errors import CheckpointError
from bifocal.inputs.preprocess import Preprocess
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.model.clip import CLIP
from bifocal.model.config import Activation, CLIPConfig
from bifocal.pretrained import Pretrained, check_state, on_a_line

MALFORMED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""What reading a table raises whose content is not what its name promises."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What only the user can know where a source does not say it.

    Attributes:
        activation: of a bare state dict; its weights look the same with either.
        architecture: of a bare state dict whose heads are not 64 channels wide.
        vocabulary: of a source without one: a tokenizer, `bpe_simple_vocab_16e6.txt.gz`, or a
            tokenizer.json of bifocal's.
        cache_dir: where downloads are kept; huggingface_hub's own place by default.
        offline: whether nothing may be downloaded.
    """

    activation: Activation | None = None
    architecture: CLIPConfig | None = None
    vocabulary: Tokenizer | Path | None = None
    cache_dir: Path | None = None
    offline: bool = False


def assemble(
    config: CLIPConfig,
    state: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    preprocess: Preprocess,
    origin: Path,
) -> Pretrained:
    """Return the model in evaluation mode, its weights in float32.

    Raises:
        CheckpointError: the parts do not belong together; the message names the origin.
    """
    stages = config.vision.layers
    layers = config.text_transformer.layers + (stages if isinstance(stages, int) else sum(stages))
    if layers > len(state):
        raise CheckpointError(f"{origin} has {len(state)} weights, too few for {layers} layers")
    with torch.device("meta"):
        model = CLIP(config)
    weights = {name: as_float32(tensor) for name, tensor in state.items()}
    check_state(model, weights, origin)
    model.load_state_dict(weights, assign=True)
    return Pretrained(model.eval(), tokenizer, preprocess)


def as_float32(tensor: Tensor) -> Tensor:
    """Return floating weights in float32, contiguous; counters stay integers."""
    full = tensor.float() if tensor.is_floating_point() else tensor
    return on_a_line(full.contiguous())


def check_activation(hints: Hints, origin: Path, stated: Activation) -> None:
    """Compare what the source states with what the user said, if anything.

    Raises:
        CheckpointError: they contradict each other.
    """
    if hints.activation not in (None, stated):
        raise CheckpointError(
            f"{origin} says its activation is {stated}, and {hints.activation} was asked for: "
            "weights work only with the activation that they were trained with"
        )
