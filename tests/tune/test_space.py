"""Space files: what they mean, and what is said of a mistake in one."""

from __future__ import annotations

import itertools
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocal.errors import ConfigError
from bifocal.tune.recipe import flat, nested, to_toml
from bifocal.tune.search import rows
from bifocal.tune.space import Choices, Range, read_space

SPACE = """
optim.lr = { low = 1e-4, high = 1e-2, log = true }
optim.weight_decay = { low = 0.0, high = 0.3, step = 0.1 }
"data.batch_size" = { choices = [8, 16] }
[model.vision]
layers = { choices = [[1, 1, 1, 1], [2, 2, 2, 2]] }
[train]
steps = { low = 2, high = 8, step = 3 }
"""


@pytest.fixture
def write(tmp_path):
    def go(text):
        path = tmp_path / "space.toml"
        path.write_text(text)
        return path

    return go


@pytest.mark.behaviour
def test_a_space_is_read_by_dotted_key_in_any_form(write):
    space = read_space(write(SPACE))
    assert list(space.dimensions) == [
        "optim.lr",
        "optim.weight_decay",
        "data.batch_size",
        "model.vision.layers",
        "train.steps",
    ]
    steps, decay = space.dimensions["train.steps"], space.dimensions["optim.weight_decay"]
    assert steps.values() == [2, 5, 8]
    assert all(isinstance(n, int) for n in steps.values())
    assert decay.values() == [0.0, 0.1, 0.2, 0.3]  # as written, not 0.30000000000000004
    layers = space.dimensions["model.vision.layers"]
    assert isinstance(layers, Choices)
    assert [layers.decoded(code) for code in layers.coded] == layers.values()
    probes = list(space.probes())
    assert len({str(probe) for probe in probes}) == 1 + 1 + 1 + 1 + 1 + 1
    assert all(probe.keys() == space.dimensions.keys() for probe in probes)


@pytest.mark.property
def test_a_grid_has_every_combination_once(write):
    space = read_space(
        write(
            "a.x = {low = 1, high = 3, step = 1}\na.y = {choices = ['u', 'v']}\nb = {choices=[0]}"
        )
    )
    grid = [tuple(row.values()) for row in space.grid()]
    assert grid == list(itertools.product([1, 2, 3], ["u", "v"], [0]))


@pytest.mark.behaviour
def test_trials_by_hand_may_name_any_settings(write):
    space = read_space(write("[[trial]]\noptim.lr = 1e-3\n[[trial]]\n'data.batch_size' = 8"))
    assert rows(space, "manual") == [{"optim.lr": 1e-3}, {"data.batch_size": 8}]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr = 1e-3", r"'optim\.lr' is 0\.001: expected \{ low = "),
        ("optim.lr = [1e-3, 1e-2]", r"'optim\.lr' is \[0\.001, 0\.01\]: expected"),
        ("optim.lr = { lo = 1e-4, high = 1.0 }", r"unknown setting 'lo' — did you mean 'low'"),
        ("optim.lr = { low = 1e-4 }", r"space\.toml, optim\.lr: 'high' is missing"),
        ("optim.lr = { low = 1, high = 1 }", r"low 1 is not below high 1"),
        ("optim.lr = { low = 'a', high = 1 }", r"'low' is 'a': expected a number"),
        ("optim.lr = { low = nan, high = 1 }", r"'low' is nan: expected a number"),
        ("optim.lr = { low = true, high = 2 }", r"'low' is True: expected a number"),
        ("optim.lr = { low = 0.0, high = 1, log = true }", r"log=true begins above 0, not at 0\.0"),
        ("optim.lr = { low = 1, high = 9, log = true, step = 2 }", r"log or step, not both"),
        (
            "optim.lr = { low = 0.0, high = 1.0, step = 0.3 }",
            r"steps of 0\.3 from 0\.0 do not meet",
        ),
        ("optim.lr = { low = 0, high = 1, step = 0 }", r"step is 0: expected a number above 0"),
        ("optim.lr = { choices = [] }", r"'choices' is \[\]"),
        ("optim.lr = { choices = [1, 1.0] }", r"choices 1 and 1\.0 are equal"),
        ("optim.lr = { choices = [1], low = 2 }", r"unknown setting 'low'"),
        ("out = { choices = ['a', 'b'] }", r"'out' is given to each trial by the search"),
        ("[[trial]]\nout = 'a'", r"'out' is given to each trial by the search"),
        ("trial = 3", r"under a heading \[\[trial\]\]"),
        ("", r"names no settings: write them as optim\.lr = "),
        ("optim.lr = {", r"is not valid TOML"),
    ],
)
def test_a_bad_space_is_one_message(write, text, message):
    with pytest.raises(ConfigError, match=message):
        read_space(write(text))


@pytest.mark.behaviour
def test_a_search_needs_what_its_sampler_reads(write):
    ranges = read_space(write("optim.lr = { low = 1e-4, high = 1e-2 }"))
    with pytest.raises(ConfigError, match=r"'optim\.lr' is a range without steps"):
        rows(ranges, "grid")
    with pytest.raises(ConfigError, match=r"by hand needs trials under \[\[trial\]\]"):
        rows(ranges, "manual")
    by_hand = read_space(write("[[trial]]\noptim.lr = 1e-3"))
    with pytest.raises(ConfigError, match="--sampler tpe needs settings with ranges"):
        rows(by_hand, "tpe")
    assert rows(ranges, "random") is None


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
)
TABLES = st.recursive(
    st.dictionaries(st.text(min_size=1, max_size=6), SCALARS | st.lists(SCALARS), max_size=4),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=6), inner | SCALARS, max_size=4),
    max_leaves=8,
)


@pytest.mark.property
@given(TABLES)
def test_a_recipe_reads_back_equal(table):
    text = to_toml(table, "a header\nof two lines", {"a": "why"})
    assert tomllib.loads(text) == table


@pytest.mark.property
def test_dotted_keys_nest_and_flatten():
    dotted = {"a.b": 1, "a.c.d": [1, 2], "e": "x"}
    assert nested(dotted) == {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": "x"}
    assert flat(nested(dotted)) == dotted
    assert Range(low=1, high=2.0).whole is False
