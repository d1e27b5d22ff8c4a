"""What every test of data gets: a cache of its own, and a count of what is indexed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bifocal.data import index, indexing
from bifocal.data.index import build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Shards that were read to index them, in the order of the test."""
    paths: list[Path] = []

    def spy(path: Path) -> index.Index:
        paths.append(path)
        return build(path)

    monkeypatch.setattr(indexing, "build", spy)
    return paths
