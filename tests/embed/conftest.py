"""A small source of every kind of sample, and folders compared by their bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bifocal.data.sample import Sample
from bifocal.embed import job
from bifocal.errors import DataError
from bifocal.pretrained import Pretrained

BAD = {5: "empty file", 17: "missing picture", 18: "empty file"}


class Pictures:
    """Noise with captions, some of them said twice, and labels; some cannot be read."""

    class_names = ("dark", "light")

    def __init__(self, count: int = 50, seed: int = 0) -> None:
        self._count, self._seed = count, seed
        self.shard_sizes = (count,)
        self.identity = f"pictures {count} {seed}"

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Sample:
        if index in BAD:
            raise DataError(BAD[index])
        draws = np.random.default_rng((self._seed, index))
        image = draws.integers(0, 256, (20 + index % 3, 18, 3), dtype=np.uint8)
        return Sample(f"key {index} \udce9\n", image, self.captions(index), index % 2)

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(f"caption {index % 7} of {n} é" for n in range(index % 4))

    def place(self, index: int) -> str:
        return "pictures"


@pytest.fixture
def pictures() -> type[Pictures]:
    return Pictures


@pytest.fixture
def clip(tiny_vit, random_pretrained) -> Pretrained:
    return random_pretrained(tiny_vit)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut even a small source into several blocks."""
    monkeypatch.setattr(job, "BLOCK", 8)


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return a function from a folder to its files."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
