"""Tables and numbers as people read them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.report import (
    Column,
    Table,
    format_percent,
    settings_list,
    table_html,
    table_markdown,
    table_text,
)
from bifocal.report.formats import format_compact, format_number, format_value, tick_texts

ROWS = [
    {"system": "bifocal", "pairs/s": 2148.3, "R@1": 0.2412},
    {"system": "a|b <i>", "pairs/s": 97, "R@1": None},
]


@pytest.mark.golden
def test_markdown():
    # Origin: written by hand after the GitHub-flavoured markdown specification.
    table = Table(ROWS, ["system", "pairs/s", Column("R@1", format=lambda v: f"{v:.3f}")])
    assert table_markdown(table) == (
        "| system   | pairs/s |   R@1 |\n"
        "| -------- | ------: | ----: |\n"
        "| bifocal  |   2,148 | 0.241 |\n"
        "| a\\|b \\<i> |      97 |     – |\n"
    ).replace("| system   |", "| system    |").replace("| -------- |", "| --------- |").replace(
        "| bifocal  |", "| bifocal   |"
    )


@pytest.mark.behaviour
def test_wide_markdown_is_not_padded_and_not_cut():
    text = "word " * 30
    lines = table_markdown(Table([{"a": text.strip(), "b": 1}])).splitlines()
    assert lines[0] == "| a | b |"
    assert lines[1] == "| --- | --: |"
    assert text.strip() in lines[2]


@pytest.mark.golden
def test_text_table():
    # Origin: written by hand.
    table = Table([{"name": "temperature", "n": 3.14159}, {"name": "日本", "n": 100}])
    assert table_text(table) == (
        "name             n\n-----------  -----\ntemperature  3.142\n日本           100\n"
    )


@pytest.mark.property
@given(
    rows=st.lists(
        st.fixed_dictionaries({k: st.text("abc de", max_size=90) for k in "xyz"}),
        min_size=1,
        max_size=4,
    )
)
def test_text_table_fits_and_loses_nothing(rows: list[dict[str, str]]):
    written = table_text(Table(rows), width=60)
    assert max(map(len, written.splitlines())) <= 60
    letters = sorted(c for row in rows for v in row.values() for c in v if c != " ")
    assert sorted(written.replace(" ", "").replace("\n", "").replace("-", "")) == sorted(
        [*letters, *"xyz"]
    )


@pytest.mark.behaviour
def test_html_table_has_headings_alignment_sort_keys_and_bars():
    columns = ["system", Column("pairs/s", "pairs / s"), Column("R@1", bar=True)]
    written = table_html(Table(ROWS, columns, "Peers"))
    assert '<th scope="col" class="right">pairs / s</th>' in written
    assert '<th scope="col" class="left">system</th>' in written
    assert 'data-sort="2148.3"' in written
    assert "--share:24.1%" in written
    assert "<caption>Peers</caption>" in written
    assert written.count("<tr>") == 3
    assert "a|b &lt;i&gt;" in written
    assert "No rows." in table_html(Table([]))


@pytest.mark.behaviour
def test_columns_are_inferred_from_rows():
    table = Table([{"a": 1}, {"b": "x", "a": np.float32(2)}, {"c": True}])
    assert [(c.heading, c.align) for c in table.resolved()] == [
        ("a", "right"),
        ("b", "left"),
        ("c", "left"),
    ]


@pytest.mark.behaviour
def test_settings_keep_their_exact_values_and_fold_by_group():
    written = settings_list({"seed": 49408, "optim": {"eps": 1e-06, "on": True, "x": {"y": None}}})
    assert "<dd>49408</dd>" in written
    assert "<dd>1e-06</dd>" in written
    assert "<dd>yes</dd>" in written
    assert written.count("<details>") == 2
    assert "<summary>optim <small>3 settings</small></summary>" in written
    assert "1 setting<" in written
    assert settings_list({"a": {"b": 1}}, open_groups=True).count("<details open>") == 1


@pytest.mark.golden
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0005, "0.0005"),
        (3.2087e-11, "3.21e-11"),
        (2.34567, "2.346"),
        (-0.12344, "-0.1234"),
        (12345.6, "12,346"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers(value: float, shown: str):
    # Origin: four significant digits by hand.
    assert format_number(value) == shown


@pytest.mark.golden
def test_other_values():
    # Origin: written by hand.
    values = [None, True, np.int64(49408), np.float32(0.5), "x", [1, 2.5], (), np.bool_(False)]
    shown = ["–", "yes", "49,408", "0.5", "x", "1, 2.5", "–", "no"]
    assert [format_value(value) for value in values] == shown
    compact = [
        format_compact(v).replace("\u202f", " ") for v in (999, 999.6, 1250, 12_800_000, 2e9)
    ]
    assert compact == ["999", "1 k", "1.25 k", "12.8 M", "2 G"]
    assert format_percent(0.4123) == "41.2\u202f%"


@pytest.mark.golden
def test_ticks_have_the_digits_that_tell_them_apart():
    # Origin: written by hand.
    assert tick_texts([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert tick_texts([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert tick_texts([2.301, 2.302]) == ["2.301", "2.302"]
    assert tick_texts([0, 0.2, 0.4], percent=True) == ["0\u202f%", "20\u202f%", "40\u202f%"]
    assert tick_texts([0, 20000, 40000]) == ["0", "20\u202fk", "40\u202fk"]
    assert tick_texts([0, 2e-4, 4e-4]) == ["0", "2e-4", "4e-4"]
    assert tick_texts([-1.0, -0.0, 1.0]) == ["−1", "0", "1"]
    assert tick_texts([]) == []


@pytest.mark.property
@given(
    st.floats(-1e8, 1e8),
    st.sampled_from([1, 2, 2.5, 5]),
    st.integers(-6, 6),
    st.booleans(),
)
def test_neighbouring_ticks_never_read_alike(start: float, digit: float, power: int, percent: bool):
    step = digit * 10.0**power
    if abs(start) > 1e9 * step:
        start = 0.0
    texts = tick_texts([start + i * step for i in range(5)], percent)
    assert len(set(texts)) == 5
