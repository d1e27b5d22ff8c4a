"""Features that a suite keeps: a model reads the pictures of a data set once, whatever is asked.

Prompts, tasks and protocols that see the same pictures share a folder of features, as do later runs
of the suite. The folder is named by the hash of all that decides the features: weights,
architecture and vocabulary, resize and normalisation of the pictures, data (content, split, number
of samples, and the shards' times of change), kind (unit norm in the shared space, or before the
projection), precision, batch size and device. CLIP_benchmark's key leaves out normalisation,
precision and split: whoever changes one of these reads features that are not what was asked for.

Knows which features a task reads; knows nothing of how it scores them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bifocal.embed import Embedded, Job, Kind, embed
from bifocal.embed.job import What
from bifocal.evaluate.features import BATCH
from bifocal.evaluate.opening import Opened
from bifocal.identity import fingerprint
from bifocal.pretrained import Pretrained

NAMED = 20
"""Characters of the hash in a folder's name."""

Told = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Kept:
    """Features in the folders of a suite.

    Attributes:
        folder: holds one folder a set of features.
        threads: that read and decode.
        told: hears how many pictures are read.
    """

    folder: Path
    threads: int
    told: Told

    def of(
        self,
        pretrained: Pretrained,
        opened: Opened,
        limit: int | None,
        kind: Kind = "projected",
        what: What = "images",
    ) -> Embedded:
        """Return the features of a data set, computed now if they are not there.

        Raises:
            CheckpointError: they cannot be written.
            DataError: no picture can be read.
        """
        # The batches of `features.encode_pictures`: the same bits as without a folder.
        job = Job(what=what, kind=kind, limit=limit, batch_size=BATCH, max_bad=1.0)
        place = self.folder / key(pretrained, opened, job)[:NAMED]
        return embed(
            pretrained,
            opened.source,
            place,
            job,
            threads=self.threads,
            watch=lambda done, total: self.told(f"{opened.spec}: {done:,} of {total:,} pictures"),
        )


def key(pretrained: Pretrained, opened: Opened, job: Job) -> str:
    """Return the hash of all that decides features; what model and data are called does not."""
    described = job.describe(pretrained, opened.source)
    for part in ("model", "data"):
        del described[part]["name"]
    return fingerprint([described, opened.split, list(opened.stamps())])
