"""One batch, however it is split over processes, chunks and tiles: the same gradients."""

from __future__ import annotations

import pytest
from real_worlds import run_world
from train import splitting

from bifocal.world import ALONE

CASES, SPREAD = 4 * (3 * 5 + 2) + 2 * 4, (2 + 2 + 1) * 2


@pytest.mark.property
def test_chunks_and_tiles_in_one_process():
    chunks = sum(splitting.check_chunks(ALONE, model) for model in ("resnet", "mlp"))
    assert splitting.check_vit(ALONE) + chunks == CASES


@pytest.mark.property
@pytest.mark.parametrize("processes", [2, 4])
def test_chunks_and_tiles_in_several_processes(processes, tmp_path):
    for said in run_world(processes, tmp_path, splitting.main):
        assert f"compared {CASES + SPREAD}" in said
