"""Scatter plots and parallel coordinates: values of every kind, and none."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from bifocal.report.parallel import Axis, parallel_plot
from bifocal.report.scatter import Dot, ScatterPlot, scatter_plot

NAN = float("nan")


def dots(figure: str) -> int:
    return len(re.findall(r"<use ", figure))


@pytest.mark.golden
def test_heights_on_an_axis():
    # By hand: thirds of the way, decades, and names in order of appearance.
    assert Axis("a", [0, 3, 1, None]).heights().tolist()[:3] == pytest.approx([0, 1, 1 / 3])
    assert math.isnan(Axis("a", [0, 3, 1, None]).heights()[3])
    assert Axis("a", [1e-4, 1e-2, 1e-3], log=True).heights() == pytest.approx([0, 1, 0.5])
    assert Axis("a", ["u", [1, 2], True, "u"]).heights() == pytest.approx([0, 0.5, 1, 0])
    assert Axis("a", [5, 5]).heights() == pytest.approx([0.5, 0.5])
    assert [text for _, text in Axis("a", ["u", [1, 2], True]).ticks()] == ["u", "1, 2", "yes"]
    assert Axis("a", range(1, 102)).ticks()[2] == (0.5, "51")
    assert Axis("a", [float(n) for n in np.geomspace(1, 1e4, 9)], log=True).ticks()[2][1] == "100"


@pytest.mark.behaviour
@pytest.mark.parametrize("values", [[NAN, NAN], [None, None], [1.0, NAN], [2, 2], [True, "b"]])
@pytest.mark.parametrize("log", [False, True])
def test_awkward_values_do_not_fail(values, log):
    figure = parallel_plot("trials", [Axis("x", values, log), Axis("y", [0.1, 0.2])])
    assert "<svg" in figure
    empty = parallel_plot("trials", [Axis("x", values, log), Axis("y", [NAN, NAN])])
    assert "No data." in empty
    assert "No data." in parallel_plot("trials", [Axis("y", [1])])


@pytest.mark.behaviour
def test_the_best_line_stands_out():
    axes = [Axis("x", range(8)), Axis("<y>", [0.8, 0.1, 0.5, 0.6, 0.7, 0.2, 0.3, 0.4])]
    figure = parallel_plot("trials", axes)
    assert len(re.findall(r"stroke: var\(--series-2\); stroke-width: 3", figure)) == 1
    assert "<y>" not in figure
    lowest = parallel_plot("trials", axes, higher=False)
    first = re.compile(r'<path d="([^"]*)"[^>]*stroke: var\(--series-2\); stroke-width: 3')
    ends = [first.search(one) for one in (figure, lowest)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].group(1) != ends[1].group(1)


@pytest.mark.behaviour
def test_dots_of_every_kind_are_drawn():
    points = [Dot(1e-3, 0.5), Dot(1e-2, 0.7, "best"), Dot(1e-4, 0.2, "partial"), Dot(1.0, NAN)]
    figure = scatter_plot(ScatterPlot("optim.lr", points, log=True, percent=True))
    assert dots(figure) >= 3
    assert "3 dots from 20.0" in figure
    named = [Dot([1, 1], 0.5), Dot("b", 0.1)]
    figure = scatter_plot(ScatterPlot("layers", named, names=[[1, 1], "b", True]))
    assert ">1, 1</text>" in figure
    assert ">yes</text>" in figure
    line = scatter_plot(
        ScatterPlot("x", [Dot(0, 1.0), Dot(1, 2.0)], "trial", line=([0, 1], [1, 2]))
    )
    assert ">trial</text>" in line
    assert "No data." in scatter_plot(ScatterPlot("x", [Dot(0, NAN)]))
