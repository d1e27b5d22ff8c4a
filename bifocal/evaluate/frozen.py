"""Features of labelled pictures for a classifier on top of a frozen image tower.

"projected" features are what retrieval uses: in the shared space, of unit norm (clip_benchmark
probes these). "penultimate" ones are those that the paper probes (appendix A.3): a Vision
Transformer's class token after `ln_post`, before the linear projection into the shared space. A
ModifiedResNet has no such layer, since its attention pooling ends in the shared space; there they
are the tower's output, not normalised. OpenAI's own example of a linear probe reads that output
(`encode_image`) for every model, Vision Transformers included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bifocal.data.sample import Source
from bifocal.embed import Kind
from bifocal.errors import DataError
from bifocal.evaluate.features import ALL, Pictures, check_finite, encode_pictures
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
        DataError: there are no classes, some pictures have no label, none can be read, or a feature
            is not finite.
    """
    if not source.class_names:
        raise DataError("the pictures have no classes: a probe needs NAME.cls and classes.json")
    seen = encode_pictures(pretrained, source, replace(how, kind=kind), told)
    if bool((seen.labels < 0).any()):
        raise DataError(
            "some pictures have captions but no label, or may be of several classes: a probe "
            "needs NAME.cls with one number"
        )
    check_finite(seen.features)
    names = tuple(source.class_names)
    return Labelled(seen.features.clone(), seen.labels, names, kind, seen.skipped, seen.indices)


def check_classes(train: Labelled, other: Labelled, name: str) -> None:
    """Raise DataError unless `other` has only classes that `train` has examples of."""
    if train.class_names != other.class_names:
        raise DataError(
            f"training and {name} pictures have different classes: {_few(train.class_names)} and "
            f"{_few(other.class_names)}; give both the same classes.json"
        )
    unknown = set(other.labels.tolist()) - set(train.labels.tolist())
    if unknown:
        names = [train.class_names[label] for label in sorted(unknown)]
        raise DataError(
            f"the {name} pictures have classes that no training picture has: {_few(names)}"
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} ({shown})"
