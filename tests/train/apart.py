"""Processes that see different files, as those of two machines without a common disk do."""

from __future__ import annotations

from pathlib import Path

from train import rejecting

from bifocal.errors import CheckpointError
from bifocal.world import join_world


def main(out: Path) -> None:
    """Start a run of which process 0 alone finds a checkpoint."""
    with join_world("cpu") as world:
        try:
            rejecting.train(out / str(world.rank), world, False)
        except CheckpointError as error:
            print(error)
