"""A source whose pictures are features that a locked image tower has given already.

A tower that is locked gives the same features every time (Zhai et al. 2022, "LiT", arXiv
2111.07991, section 3), so that `bifocal embed` can compute them once: a run then neither decodes
pictures nor reads them with the tower. They are features of whole pictures, not of random crops.
"""

from __future__ import annotations

import numpy as np

from bifocal.data.sample import Sample, Source
from bifocal.embed import Embedded
from bifocal.errors import ConfigError, DataError
from bifocal.identity import unlike
from bifocal.pretrained import Pretrained
from bifocal.train.config import RunConfig


class FeatureSource:
    """Samples of `source` with features in place of their pictures.

    A picture that could not be read when the features were made is a bad sample.

    Args:
        source: whose captions are read.
        pictures: the same samples as whoever embedded them read them: sentences for the names of
            their classes say nothing of pictures.
        embedded: projected features of its pictures.
        pretrained: the model whose image tower is locked.

    Raises:
        CheckpointError: the features are of another model or of other data.
        ConfigError: they are features of captions alone.
    """

    def __init__(
        self, source: Source, pictures: Source, embedded: Embedded, pretrained: Pretrained
    ) -> None:
        assert source.shard_sizes == pictures.shard_sizes
        rows = embedded.check(pretrained, pictures)
        self._source, self._features = source, embedded.image_features
        self._rows = np.full(len(source), -1, dtype=np.int64)
        self._rows[embedded.indices[:rows]] = np.arange(rows)
        self.identity = source.identity
        self.shard_sizes, self.class_names = source.shard_sizes, source.class_names

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Sample:
        """Return sample `index`, its image a float32 array of features; it has no label.

        Raises:
            DataError: its captions are damaged, or there are no features of its picture.
        """
        row = int(self._rows[index])
        if row < 0:
            raise DataError("no stored features")
        features = np.array(self._features[row], dtype=np.float32)
        return Sample(str(index), features, self._source.captions(index), None)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the captions of sample `index`."""
        return self._source.captions(index)

    def place(self, index: int) -> str:
        """Return where sample `index` lies."""
        return self._source.place(index)


def check_reads_alike(config: RunConfig, start: Pretrained) -> None:
    """Compare how the run's model reads a picture with how that of `init` does.

    Raises:
        ConfigError: the features of the one are not those of the other.
    """
    own, theirs = config.model, start.model.config
    faults: list[str] = []
    for key in ("activation", "embed_dim", "projection"):
        faults += unlike(getattr(own, key), getattr(theirs, key), f"model.{key}")
    first_weights = {"init_residual_gain"}
    here, there = (one.vision.model_dump(exclude=first_weights) for one in (own, theirs))
    faults += unlike(here, there, "model.vision")
    for key in ("mean", "std"):
        here, there = (getattr(one, key) for one in (config.normalize, start.preprocess))
        faults += unlike(here, there, f"normalize.{key}")
    if faults:
        raise ConfigError(
            f"data.image_features are what the model of init={config.init} says of pictures, and "
            f"this run's would say something else ({'; '.join(faults)}): leave these settings as "
            "they are there, or data.image_features out"
        )
