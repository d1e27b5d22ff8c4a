"""Writes a model in another library's format, and proves it by reading the result back.

Both models then see the same random pictures and texts; the largest differences of features,
logits and weights are written beside the result. A conversion that is not exact is an error.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import torch

from bifocal.errors import CheckpointError
from bifocal.interop import huggingface, open_clip, openai
from bifocal.interop.load import read
from bifocal.interop.source import Hints
from bifocal.pretrained import Pretrained

TOLERANCE = 1e-5
"""Largest difference of unit features that a conversion may have in float32."""
RECORD = "conversion.json"


class Target(StrEnum):
    """A format that can be written."""

    BIFOCAL = "bifocal"
    OPENAI = "openai"
    OPEN_CLIP = "open_clip"
    HUGGINGFACE = "huggingface"


@dataclass(frozen=True, slots=True)
class Differences:
    """Largest absolute differences between a model and its conversion, read back."""

    weights: float
    image_features: float
    text_features: float
    logits: float

    @property
    def exact(self) -> bool:
        """Whether features agree as float32 arithmetic allows."""
        return max(self.image_features, self.text_features) <= TOLERANCE


def convert(source: str | Path, destination: Path, target: Target, hints: Hints) -> Differences:
    """Read `source`, write it as `target` and return how the result differs.

    Args:
        source: whatever `bifocal.load` takes.
        destination: a folder that does not exist yet; for OpenAI's layout a file (.pt or
            .safetensors).
        target: the format to write.
        hints: what the source does not say.

    Raises:
        CheckpointError: the destination exists, the target cannot hold the model, or what was
            read back differs.
    """
    if destination.exists():
        raise CheckpointError(f"{destination} exists: name another place, or remove it first")
    return write(read(source, hints), destination, target, str(source))


def write(model: Pretrained, destination: Path, target: Target, origin: str) -> Differences:
    """Write `model` as `target`, read it back, and record the differences beside it.

    Raises:
        CheckpointError: the target cannot hold the model, or what was read back differs.
    """
    partial = destination.with_name(f".partial-{destination.name}")
    vocabulary: Path | None = None
    _remove(partial)
    hints = Hints(vocabulary=model.tokenizer)
    match target:
        case Target.BIFOCAL:
            model.save(partial)
        case Target.OPENAI:
            vocabulary = openai.write(model, partial)
            hints = Hints(activation=model.model.config.activation, vocabulary=model.tokenizer)
        case Target.OPEN_CLIP:
            open_clip.write(model, partial)
        case Target.HUGGINGFACE:
            huggingface.write(model, partial)
    try:
        found = compare(model, read(partial, hints))
        if not found.exact:
            raise CheckpointError(f"the {target} form of {origin} is not the same model: {found}")
        _record(partial, destination, target, origin, found)
        partial.rename(destination)
        if vocabulary:
            vocabulary.rename(destination.with_name(f"{destination.stem}.bpe.txt.gz"))
        return found
    finally:
        _remove(partial)
        if vocabulary:
            _remove(vocabulary)


@torch.inference_mode()
def compare(one: Pretrained, other: Pretrained) -> Differences:
    """Return how far two models of one architecture differ on the same random inputs.

    Raises:
        CheckpointError: they cannot be compared: tokenizer or preprocessing differ.
    """
    if one.preprocess != other.preprocess or one.tokenizer.merges != other.tokenizer.merges:
        raise CheckpointError("the two models prepare pictures or texts differently")
    config, generator = one.model.config, torch.Generator().manual_seed(0)
    size, length = config.vision.image_size, config.text.context_length
    images = torch.randn(2, 3, size, size, generator=generator)
    tokens = torch.randint(1, one.tokenizer.start, (2, length), generator=generator)
    tokens[:, 0] = one.tokenizer.start
    tokens[0, length // 2], tokens[1, -1] = one.tokenizer.end, one.tokenizer.end
    inputs = images.to(one.device), tokens.to(one.device)
    mine, theirs = (m.model.to(one.device).features(*inputs) for m in (one, other))
    logits = (f.logit_scale * f.image @ f.text.T for f in (mine, theirs))
    states = one.model.state_dict(), other.model.state_dict()
    return Differences(
        weights=max(_gap(tensor, states[1][name]) for name, tensor in states[0].items()),
        image_features=_gap(mine.image, theirs.image),
        text_features=_gap(mine.text, theirs.text),
        logits=_gap(*logits),
    )


def _record(
    partial: Path, destination: Path, target: Target, origin: str, found: Differences
) -> None:
    """Write what was proved: into the result's folder, or beside its file."""
    record = {"from": origin, "to": str(target), "largest_differences": asdict(found)}
    beside = destination.with_name(f"{destination.stem}.{RECORD}")
    path = partial / RECORD if partial.is_dir() else beside
    path.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
