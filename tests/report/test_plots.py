"""Line plots show what there is: gaps, holes, single points, spikes."""

import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocal.report import LinePlot, Reference, Series, line_plot, training_curves
from bifocal.report.plots import HEIGHT, WIDTH
from bifocal.report.scales import spread
from bifocal.report.series import lonely, smoothed, thinned, with_gaps

NAN = float("nan")


def pointer(figure: str) -> dict:
    found = re.search(r'data-plot="([^"]*)"', figure)
    assert found
    return json.loads(found.group(1).replace("&quot;", '"').replace("&#x27;", "'"))


def markers(figure: str) -> int:
    return len(re.findall(r"<use [^>]*var\(--series-1\)", figure))


@pytest.mark.behaviour
def test_single_point_is_a_marker():
    one = line_plot(LinePlot("loss", [Series("loss", [5], [2.5])]))
    assert markers(one) == 1
    assert pointer(one)["series"][0]["y"] == [2.5]
    many = line_plot(LinePlot("loss", [Series("loss", range(100), range(100))]))
    assert markers(many) == 0


@pytest.mark.behaviour
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("y", [[NAN, NAN], [float("inf"), 1.0], [0.0, -1.0], [3.0, 3.0]])
def test_awkward_values_do_not_fail(y: list[float], log: bool):
    plot = LinePlot("loss", [Series("loss", [1, 2], y, smooth=True, best="min")], log=log)
    figure = line_plot(plot)
    assert "<svg" in figure
    assert figure.count("not finite") == (0 if np.isfinite(y).all() else 1) or "no finite" in figure


@pytest.mark.behaviour
def test_empty_series_is_said_to_be_empty():
    figure = line_plot(LinePlot("loss", [Series("loss", [], [])]))
    assert "No data." in figure
    assert "<svg" not in figure
    beside = line_plot(LinePlot("loss", [Series("a", [], []), Series("b", [1, 2], [1, 2])]))
    assert [series["label"] for series in pointer(beside)["series"]] == ["b"]


@pytest.mark.behaviour
def test_values_that_are_not_finite_are_crossed_and_counted():
    figure = line_plot(LinePlot("loss", [Series("loss", [1, 2, 3, 4], [3.0, NAN, NAN, 1.0])]))
    assert "× loss not finite: 2" in figure
    assert len(re.findall(r"<use [^>]*var\(--alarm\)", figure)) == 2


@pytest.mark.behaviour
def test_best_point_reference_and_chance_are_told():
    recall = Series("R@1", [100, 200, 300], [0.1, 0.4, 0.3], best="max", chance=0.01)
    figure = line_plot(
        LinePlot("recall", [recall], percent=True, references=[Reference(0.5, "aim")])
    )
    plain = figure.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "○ best R@1: 40.0 % at step 200" in plain
    assert "dashed: chance, 1.0 %" in plain
    assert re.search(r"<text[^>]*>aim</text>", figure)
    assert figure.count("stroke-dasharray") == 2


@pytest.mark.behaviour
def test_labels_stand_at_the_ends_of_their_lines():
    low, high = Series("low", [0, 1], [0.0, 10.0]), Series("high", [0, 1], [0.0, 100.0])
    figure = line_plot(LinePlot("x", [low, high]))
    texts = re.findall(r"<text ([^>]*)>(low|high) [^<]*<", figure)
    at = {name: float(re.findall(r'\by="([^"]+)"', found)[0]) for found, name in texts}
    top, bottom = pointer(figure)["box"][1], pointer(figure)["box"][3]
    assert top < at["high"] < top + 0.2 * (bottom - top)
    assert top + 0.8 * (bottom - top) < at["low"] < bottom + 4
    assert bottom < HEIGHT
    assert pointer(figure)["box"][2] < WIDTH


@pytest.mark.behaviour
def test_colours_follow_the_page_and_text_stays_text():
    figure = line_plot(LinePlot("cost $5 or $6", [Series("$5 or $6", [1, 2], [1, 2])] * 8))
    assert "#0000" not in figure
    assert "#000000" not in figure
    assert "var(--series-6)" in figure
    assert "DejaVu" not in figure
    assert ">$5 or $6 2<" in figure


@pytest.mark.behaviour
def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    line_plot(LinePlot("loss", [Series("损失", [1, 2], [1, 2])] * 2, pairs_per_step=256))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.behaviour
def test_resumed_run_keeps_the_later_value_of_a_repeated_step():
    x, y = Series("loss", [1, 2, 3, 2, 3, 4], [9, 8, 7, 2, 3, 4]).tidy()
    assert x.tolist() == [1, 2, 3, 4]
    assert y.tolist() == [9, 2, 3, 4]


@pytest.mark.behaviour
def test_gap_breaks_the_line_and_uneven_steps_do_not():
    x, y = with_gaps(np.array([1.0, 2, 3, 100, 101]), np.arange(5.0))
    assert np.isnan(y).tolist() == [False, False, False, True, False, False]
    assert 3 < x[3] < 100
    uneven = np.array([0.0, 500, 1000, 1017])
    assert with_gaps(uneven, uneven)[1].tolist() == uneven.tolist()


@pytest.mark.property
@given(
    y=st.lists(st.floats(-1e3, 1e3) | st.just(NAN), min_size=1, max_size=60),
    window=st.integers(0, 30),
)
@settings(max_examples=100, deadline=None)
def test_smoothing_agrees_with_its_plain_twin(y: list[float], window: int):
    def once(values: np.ndarray) -> np.ndarray:
        half, result = window // 2, np.full(values.size, NAN)
        for i in range(values.size):
            near = values[max(i - half, 0) : i + half + 1]
            if np.isfinite(values[i]):
                result[i] = np.mean(near[np.isfinite(near)])
        return result

    values = np.array(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(smoothed(values, window), once(once(values)), atol=1e-6)


@pytest.mark.property
@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=400))
@settings(max_examples=100, deadline=None)
def test_thinning_keeps_ends_extremes_and_order(y: list[float]):
    values = np.array(y)
    x, kept = thinned(np.arange(values.size, dtype=float), values, 20)
    assert x[0] == 0
    assert x[-1] == values.size - 1
    assert (np.diff(x) > 0).all()
    assert x.size <= max(values.size if values.size <= 20 else 32, 1)
    np.testing.assert_array_equal(values[x.astype(int)], kept)
    if np.isfinite(values).any():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)


@pytest.mark.property
@given(st.lists(st.floats(0, 200), min_size=1, max_size=10))
def test_labels_never_overlap(heights: list[float]):
    moved = spread(np.array(heights), 15, 0.0, 200.0)
    assert (np.diff(np.sort(moved)) >= 15 - 1e-6).all()
    assert moved.min() >= -1e-6
    assert moved.max() <= 200 + 1e-6
    order = np.argsort(heights, kind="stable")
    assert (np.diff(moved[order]) > 0).all()


@pytest.mark.behaviour
def test_lonely_points():
    assert lonely(np.array([1.0, NAN, 2.0, 3.0, NAN, 4.0])).tolist() == [
        True, False, False, False, False, True,
    ]  # fmt: skip


@pytest.mark.behaviour
def test_training_curves_draw_what_the_log_has():
    rows = [{"step": s, "loss": 5.0 - s, "lr": 1e-4} for s in range(3)]
    rows[2] |= {"validation_loss": 3.0, "text_to_image_recall@1": 0.2}
    figures = training_curves(rows, chance={"text_to_image_recall@1": 0.01}, pairs_per_step=64)
    titles = [re.search("<b>(.*?)</b>", figure).group(1) for figure in figures]  # type: ignore[union-attr]
    assert titles == ["Loss", "Text → image recall", "Learning rate"]
    assert [s["label"] for s in pointer(figures[0])["series"]] == ["training", "validation"]
    assert "dashed: chance" in figures[1]
    assert "dashed: chance" not in figures[0]
    assert re.search(r"<text[^>]*>pairs</text>", figures[0])
    assert training_curves([]) == []
