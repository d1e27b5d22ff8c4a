"""Shards on the disk and on a server, and sources opened there with little patience."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from shard_server import ShardServer, shard_server
from tar_files import shards

from bifocal.data import sources
from bifocal.data.patience import Patience
from bifocal.data.shards import ShardSource
from bifocal.data.sources import Reading, open_source

__all__ = ["data", "quick", "shard_server"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short, and what a stalled store is given."""
    hasty = partial(Patience, attempts=3, pause=0.01)
    monkeypatch.setattr(sources, "Patience", lambda stall: hasty(stall=min(stall, 0.5)))


@pytest.fixture
def data(tmp_path: Path, shard_server: ShardServer) -> list[Path]:
    """Four shards on the disk and on the server."""
    paths = shards(tmp_path / "data", 4)
    shard_server.files = {f"d/{path.name}": path.read_bytes() for path in paths}
    return paths


def opened(url: str, **reading: object) -> ShardSource:
    source = open_source(url, Reading(**reading))
    assert isinstance(source, ShardSource)
    return source


def cached(cache: Path) -> list[Path]:
    return sorted((cache / "bifocal" / "shards").glob("*.tar"))
