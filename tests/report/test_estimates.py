"""Interval plots: a line an estimate, nothing lost, nothing beyond the figure."""

from __future__ import annotations

import re

import pytest

from bifocal.report.estimates import Estimate, estimate_plot

TWO = [
    Estimate("cats & dogs", "first <model>", 0.71, 0.66, 0.75),
    Estimate("birds", "first <model>", 0.2, 0.2, 0.2),
    Estimate("cats & dogs", "second", 1.0, 0.99, 1.0),
]


@pytest.mark.behaviour
def test_every_estimate_is_shown_and_told():
    figure = estimate_plot("Accuracy", TWO, "a note")
    for text in ("71.0", "20.0", "100.0", "first &lt;model&gt;", "cats &amp; dogs", "a note"):
        assert text in figure
    description = re.search(r'aria-label="([^"]*)"', figure)
    assert description
    assert "second on cats &amp; dogs" in description.group(1)
    # Equal labels have equal colours.
    assert {"1", "2"} == set(re.findall(r"var\(--series-(\d)\)", figure))


@pytest.mark.behaviour
def test_nothing_to_show_is_said():
    assert "No data." in estimate_plot("Accuracy", [])


@pytest.mark.property
def test_the_same_estimates_give_the_same_figure():
    assert estimate_plot("Accuracy", TWO) == estimate_plot("Accuracy", TWO)
