"""The fault campaign in its short form: every fault at least once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from faults import archives, samples  # noqa: F401 - they enter their faults
from faults.campaign import FAULTS, Fault, run

ROOT = Path(__file__).resolve().parents[2]
HERE = [one for one in FAULTS if one.short and not one.forks]


@pytest.mark.behaviour
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("fault", HERE, ids=lambda one: one.name)
def test_a_fault_in_the_data_has_the_outcome_expected(fault: Fault, tmp_path):
    assert run(fault, tmp_path / "fault", fault.short).injected


@pytest.mark.property
def test_a_fault_of_a_process_costs_nothing_that_was_saved():
    rooms = [f"--room={name}" for name in ("records", "moments")]
    # In a process of its own, which has no thread yet and may be copied.
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults", "--short", *rooms],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as campaign:
        try:
            said, _ = campaign.communicate(timeout=200)
        finally:
            with suppress(ProcessLookupError):  # its copies too
                os.killpg(campaign.pid, signal.SIGKILL)
    assert campaign.returncode == 0, said
    assert said.count("\n|") >= 5
