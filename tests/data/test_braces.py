"""Braces in names become the names that a shell makes of them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.data.braces import expand
from bifocal.errors import ConfigError

GROUPS = ["{0..3}", "{07..12}", "{3..1}", "{000..2}", "{a,b}", "{x,}", "{one}", "{}", "a", "/", "-"]


@pytest.mark.parity
def test_the_names_are_the_shells():
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")

    @given(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=4))
    def agrees(parts):
        pattern = "".join(["s", *parts, ".tar"])
        echoed = subprocess.run(
            [bash, "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True
        )
        assert expand(pattern) == list(dict.fromkeys(echoed.stdout.splitlines()))

    agrees()


@pytest.mark.behaviour
def test_a_pattern_of_too_many_names_is_refused():
    assert len(expand("{00000..39999}.tar")) == 40_000
    for pattern in ("{000000..999999}{a,b}.tar", "{0..9}" * 7, "{0..99999999999}"):
        with pytest.raises(ConfigError, match="more than 1,000,000"):
            expand(pattern)
