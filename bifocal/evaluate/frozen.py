"""Features of labelled pictures for a classifier on top of a frozen image tower.

"projected" features are what retrieval uses: in the shared space, of unit norm (clip_benchmark
probes these). "penultimate" ones are those that the paper probes (appendix A.3): a Vision
Transformer's class token after `ln_post`, before the linear projection into the shared space. A
ModifiedResNet has no such layer, since its attention pooling ends in the shared space; there they
are the tower's output, not normalised. OpenAI's own example of a linear probe reads that output
(`encode_image`) for every model, Vision Transformers included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed import Kind
from bifocal.errors import DataError
from bifocal.evaluate.features import ALL, Pictures, encode_pictures
from bifocal.pretrained import Pretrained, Told, quiet


@dataclass(frozen=True, slots=True)
class Labelled:
    """Frozen features of a source's pictures, and the class of each."""

    features: Float[Tensor, "images dim"]
    labels: Int[Tensor, " images"]
    class_names: tuple[str, ...]
    kind: Kind = "penultimate"
    skipped: int = 0
    indices: Int[Tensor, " images"] | None = None
    """Source index of each picture; None where pictures of two sources are joined."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[Tensor, " rows"]) -> Labelled:
        """Return the pictures of these rows."""
        indices = None if self.indices is None else self.indices[rows.cpu()]
        return replace(
            self, features=self.features[rows], labels=self.labels[rows], indices=indices
        )

    def join(self, other: Labelled) -> Labelled:
        """Return these pictures and then the other ones, which are of the same classes."""
        features = torch.cat([self.features, other.features])
        labels = torch.cat([self.labels, other.labels])
        return replace(self, features=features, labels=labels, indices=None)

    def to(self, device: torch.device) -> Labelled:
        """Return the same on another device, where a probe of them is then computed."""
        return replace(self, features=self.features.to(device), labels=self.labels.to(device))


def frozen_features(
    pretrained: Pretrained,
    source: Source,
    kind: Kind = "penultimate",
    how: Pictures = ALL,
    told: Told = quiet,
) -> Labelled:
    """Return features and classes of a labelled source's pictures; `kind` overrides `how`'s.

    Raises:
        DataError: there are no classes, some pictures have no label, or none can be read.
    """
    if not source.class_names:
        raise DataError("the pictures have no classes: a probe needs NAME.cls and classes.json")
    seen = encode_pictures(pretrained, source, replace(how, kind=kind), told)
    if bool((seen.labels < 0).any()):
        raise DataError("some pictures have captions but no label: a probe needs NAME.cls")
    names = tuple(source.class_names)
    return Labelled(seen.features.clone(), seen.labels, names, kind, seen.skipped, seen.indices)
