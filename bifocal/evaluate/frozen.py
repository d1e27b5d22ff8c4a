"""Features of labelled pictures for a classifier on top of a frozen image tower.

"projected" features are what retrieval uses: in the shared space, of unit norm (clip_benchmark
probes these). "penultimate" ones are those that the paper probes (appendix A.3): a Vision
Transformer's class token after `ln_post`, before the linear projection into the shared space. A
ModifiedResNet has no such layer, since its attention pooling ends in the shared space; there they
are the tower's output, not normalised. OpenAI's own example of a linear probe reads that output
(`encode_image`) for every model, Vision Transformers included.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.loader import Skips
from bifocal.data.sample import Source
from bifocal.errors import DataError
from bifocal.evaluate.features import encode_pictures
from bifocal.model.modified_resnet import ModifiedResNet
from bifocal.model.vision_transformer import VisionTransformer
from bifocal.pretrained import Pretrained

FeatureKind = Literal["penultimate", "projected"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Frozen features of a source's pictures, and the class of each."""

    features: Float[Tensor, "images dim"]
    labels: Int[Tensor, " images"]
    class_names: tuple[str, ...]
    kind: FeatureKind = "penultimate"
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[Tensor, " rows"]) -> Labelled:
        """Return the pictures of these rows."""
        return replace(self, features=self.features[rows], labels=self.labels[rows])

    def join(self, other: Labelled) -> Labelled:
        """Return these pictures and then the other ones, which are of the same classes."""
        features = torch.cat([self.features, other.features])
        return replace(self, features=features, labels=torch.cat([self.labels, other.labels]))

    def to(self, device: torch.device) -> Labelled:
        """Return the same on another device, where a probe of them is then computed."""
        return replace(self, features=self.features.to(device), labels=self.labels.to(device))


def frozen_features(
    pretrained: Pretrained,
    source: Source,
    kind: FeatureKind = "penultimate",
    *,
    limit: int | None = None,
    threads: int = 2,
) -> Labelled:
    """Return features and classes of a labelled source's pictures.

    Raises:
        DataError: there are no classes, some pictures have no label, or none can be read.
    """
    if not source.class_names:
        raise DataError("the pictures have no classes: a probe needs NAME.cls and classes.json")
    skips = Skips()
    with tapped(pretrained.model.visual) as penultimate:
        seen = encode_pictures(pretrained, source, skips, limit, threads)
    if bool((seen.labels < 0).any()):
        raise DataError("some pictures have captions but no label: a probe needs NAME.cls")
    features = torch.cat(penultimate) if kind == "penultimate" else seen.features.clone()
    assert len(features) == len(seen.labels), "one row a picture"
    names = tuple(source.class_names)
    return Labelled(features, seen.labels, names, kind, skips.counts.total())


@contextmanager
def tapped(
    tower: VisionTransformer | ModifiedResNet,
) -> Generator[list[Float[Tensor, "batch width"]]]:
    """Collect the penultimate features of every batch that the tower reads meanwhile."""
    match tower:
        case VisionTransformer():
            layer = tower.ln_post
        case ModifiedResNet():
            layer = tower
    parts: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, __, out: parts.append(out.float().cpu()))
    try:
        yield parts
    finally:
        handle.remove()
