"""The room's public face."""

import subprocess
import sys

import pytest

from bifocal import report


@pytest.mark.behaviour
def test_everything_exported_exists_and_is_described():
    assert report.__all__ == sorted(report.__all__)
    for name in report.__all__:
        assert getattr(report, name).__doc__, name


@pytest.mark.behaviour
def test_reports_never_use_pyplot():
    # Pyplot keeps every figure alive, and picks a window system.
    code = """
import sys
from bifocal.report import LinePlot, Series, line_plot
line_plot(LinePlot("loss", [Series("loss", [1, 2], [1, 2])]))
print("matplotlib.figure" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
