"""What is spread over processes moves as what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.property
def test_spread_tensors_move_bit_for_bit_as_ordinary_ones():
    # Three processes: rows do not divide, and one process holds none of some tensors.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    script = Path(__file__).with_name("spreading.py")
    done = subprocess.run(
        [*command, str(script)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "compared 12" in done.stdout
