"""Steps on a device that is not there: tensors are where they belong, and the host runs ahead."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fake_device.py")
AT_THE_END = {"item optim/gradients.py", "item train/step.py"}
"""A step must know whether it is to be applied, and does when all gradients are there."""
ON_THE_WAY = {
    "loss.sharing": {"nonzero loss/tiles.py"},  # how many belong together
    "optim.statistics=float16": {"item optim/update.py"},  # the largest elements
    "optim.max_update_rms": {"item optim/update.py"},
}


@pytest.mark.behaviour
@pytest.mark.skipif(shutil.which("g++") is None, reason="the device is made by a C++ compiler")
def test_a_step_on_a_device_mixes_no_devices_and_waits_at_its_end_alone():
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, timeout=280, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 12, done.stderr[-3000:]
    for row in rows:
        assert not row["error"], f"{row['case']}\n{row['error']}"
        allowed = AT_THE_END.union(*(w for part, w in ON_THE_WAY.items() if part in row["case"]))
        assert set(row["waits"]) <= allowed, row
        assert row["waits"].get("nonzero loss/tiles.py", 0) <= 1, "once a tile, and it is one"
