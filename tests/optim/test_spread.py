"""What is spread over processes moves as what is not."""

from __future__ import annotations

import pytest
from optim import spreading
from real_worlds import run_world

from bifocal.optim.library import find_compiler


@pytest.mark.property
def test_spread_tensors_move_bit_for_bit_as_ordinary_ones(tmp_path):
    # Three processes: rows do not divide, and one process holds none of some tensors.
    for said in run_world(3, tmp_path, spreading.main):
        assert f"compared {24 if find_compiler() else 12}" in said
