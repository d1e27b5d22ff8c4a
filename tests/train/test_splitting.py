"""One batch, however it is split over processes, chunks and tiles: the same gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from train import splitting

from bifocal.world import ALONE

CASES, SPREAD = 4 * (3 * 5 + 2) + 4, 2 * 2 * 2


@pytest.mark.property
def test_chunks_and_tiles_in_one_process():
    assert splitting.check_vit(ALONE) + splitting.check_resnet(ALONE) == CASES


@pytest.mark.property
@pytest.mark.parametrize("processes", [2, 4])
def test_chunks_and_tiles_in_several_processes(processes):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(Path(splitting.__file__))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"compared {CASES + SPREAD}" in done.stdout
