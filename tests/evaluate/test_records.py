"""Records are read as they were written, compared only where they may be, and explained."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bifocal.errors import BifocalError, ConfigError, DataError
from bifocal.evaluate.compare import compare
from bifocal.evaluate.explain import UNKNOWN, explain, shorten, why
from bifocal.evaluate.mcnemar import mcnemar
from bifocal.evaluate.record import Record, read_record, write_record
from bifocal.evaluate.statistics import Bootstrap, interval, paired_difference
from bifocal.identity import DataIdentity, ModelIdentity


def made(right: Tensor, units: Tensor | None = None, **changes) -> Record:
    """A record of one accuracy; each picture is a unit of its own unless `units` says otherwise."""
    units = torch.arange(len(right)) if units is None else units
    transform = {"image_size": 16, "mean": [0.5, 0.5, 0.5]}
    record = Record(
        task="zero_shot",
        protocol="plain",
        model=ModelIdentity("runs/a", "w" * 64, "c" * 64, "t" * 64, transform),
        data=DataIdentity("x/*.tar", "d" * 64, 100),
        settings={"limit": None, "templates": ["a {}"], "rules": {"articles": True}},
        metrics={"top1": right.double().mean().item(), "chance": 0.1},
        intervals={"top1": interval(right)},
        outcomes={"top1": right, "unit": units},
    )
    return replace(record, **changes)


def draw(count: int, share: float, seed: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share


@pytest.mark.property
def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    right = draw(50, 0.6, 1)
    record = made(right, metrics={"top1": right.double().mean().item(), "none": math.nan})
    path = tmp_path / "sub" / "a.json"
    write_record(record, path)
    found = read_record(path)
    assert math.isnan(found.metrics["none"])
    assert found.metrics["top1"] == record.metrics["top1"]
    assert found.outcomes.keys() == record.outcomes.keys()
    for name, tensor in record.outcomes.items():
        assert torch.equal(found.outcomes[name], tensor)
        assert found.outcomes[name].dtype == tensor.dtype
    for part in ("task", "protocol", "model", "data", "settings", "intervals"):
        assert getattr(found, part) == getattr(record, part)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    write_record(record, path)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before


@pytest.mark.behaviour
def test_what_is_no_record_is_told(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="No such file"):
        read_record(path)
    for text, message in {
        "not json": "not JSON",
        "[" * 100_000: "not JSON",
        "[1]": "no 'format'",
        '{"top1": 0.5}': "no 'format'",
        '{"format": "other/2"}': "'other/2', expected 'bifocal.record/1'",
        '{"format": "bifocal.record/1"}': "'task' is missing",
    }.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_record(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not JSON"):
        read_record(path)


@pytest.mark.behaviour
def test_outcomes_of_another_record_are_refused(tmp_path: Path):
    path = tmp_path / "a.json"
    write_record(made(draw(50, 0.6, 1)), path)
    old = path.read_bytes()
    write_record(made(draw(50, 0.6, 2)), path)
    # As if the machine had stopped between the two files.
    path.write_bytes(old)
    with pytest.raises(DataError, match="does not hold the outcomes"):
        read_record(path)
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(DataError, match="keep both files together"):
        read_record(path)
    with pytest.raises(ConfigError, match="name it as"):
        write_record(made(draw(50, 0.6, 1)), tmp_path / "a.safetensors")


@pytest.mark.property
def test_examples_are_paired_by_picture_whatever_their_order():
    a, b = draw(200, 0.7, 1), draw(200, 0.6, 2)
    plan = Bootstrap(resamples=500, seed=4)
    plain = paired_difference(a, b, plan=plan)
    order = torch.randperm(200)
    found = compare(made(a), made(b[order], order), plan).metrics[0]
    assert found.paired == plain
    assert found.paired.difference.seed == 4
    assert found.exact == mcnemar(a, b)
    assert found.p_value == found.exact.p_value
    assert (found.examples, found.left_out) == (200, 0)
    assert found.first - found.second == pytest.approx(plain.difference.value)


@pytest.mark.property
def test_pictures_that_only_one_model_has_read_are_left_out():
    a, b = draw(200, 0.7, 1), draw(200, 0.6, 2)
    kept = torch.cat([torch.arange(30, 200), torch.arange(10)])
    found = compare(made(a), made(b[kept], kept)).metrics[0]
    rows = torch.cat([torch.arange(10), torch.arange(30, 200)])
    assert found.paired == paired_difference(a[rows], b[rows])
    assert (found.examples, found.left_out) == (180, 20)


@pytest.mark.property
def test_captions_of_a_picture_are_drawn_together_and_classes_averaged():
    pictures = torch.arange(40).repeat_interleave(5)
    a, b = draw(200, 0.7, 1), draw(200, 0.6, 2)
    # Pictures in another order, the captions of each in their own.
    order = torch.randperm(40)
    rows = (order[:, None] * 5 + torch.arange(5)).flatten()
    found = compare(made(a, pictures), made(b[rows], pictures[rows])).metrics[0]
    assert found.paired == paired_difference(a, b, groups=pictures)
    assert found.exact is None
    assert found.p_value == found.paired.p_value
    classes = torch.arange(200) % 3
    by_class = [
        replace(
            made(right), outcomes={"top1": right, "unit": torch.arange(200), "top1.class": classes}
        )
        for right in (a, b)
    ]
    found = compare(*by_class).metrics[0]
    assert found.paired == paired_difference(a, b, classes=classes)
    assert found.first == pytest.approx(interval(a, classes=classes).value)
    assert found.exact is None


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"protocol": "paper"}, r"protocol \(plain and paper\)"),
        ({"task": "retrieval"}, "task"),
        ({"data": DataIdentity("x/*.tar", "e" * 64, 100)}, "data.identity"),
        ({"data": DataIdentity("x/*.tar", "d" * 64, 90)}, "data.samples"),
        ({"outcomes": {}}, "no metric with outcomes in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, named):
    right = draw(60, 0.5, 1)
    with pytest.raises(ConfigError, match=named):
        compare(made(right), made(right, **change))


@pytest.mark.behaviour
def test_records_without_a_picture_in_common_cannot_be_paired():
    right = draw(60, 0.5, 1)
    with pytest.raises(DataError, match="nothing to pair"):
        compare(made(right), made(right, torch.arange(60) + 1000))
    short = {"top1": right[:50]}
    with pytest.raises(DataError, match="do not say which pictures"):
        compare(made(right), made(right, outcomes=short))


@pytest.mark.behaviour
def test_every_differing_setting_is_named():
    right, other = draw(60, 0.5, 1), draw(60, 0.5, 2)
    transform = {"image_size": 32, "mean": [0.5, 0.5, 0.5]}
    settings = {
        "limit": 60,
        "templates": ["a {}", "the {}"],
        "rules": {"articles": False},
        "new": 1,
    }
    second = made(
        other,
        protocol="paper",
        model=ModelIdentity("runs/b", "v" * 64, "c" * 64, "t" * 64, transform),
        settings=settings,
    )
    found = explain(made(right), second)
    named = {one.name: one for one in found.settings}
    assert set(named) == {
        "protocol",
        "model.name",
        "model.weights",
        "model.transform.image_size",
        "settings.limit",
        "settings.templates",
        "settings.rules.articles",
        "settings.new",
    }
    assert named["settings.new"].first == "(not recorded)"
    assert named["settings.new"].why == UNKNOWN
    assert not named["model.name"].decides
    assert "7 settings differ, and 1 of 2 figures differ" in found.verdict
    gap = next(gap for gap in found.gaps if gap.metric == "top1")
    assert gap.turned == int((right != other).sum())
    assert gap.difference == pytest.approx((right.double() - other.double()).mean().item())
    one = interval(right)
    two = interval(other)
    widest = max(one.high - one.low, two.high - two.low) / 2
    assert gap.share == pytest.approx(abs(gap.difference) / widest)


@pytest.mark.behaviour
def test_equal_settings_with_unequal_figures_are_called_so():
    right = draw(60, 0.5, 1)
    assert explain(made(right), made(right)).verdict == (
        "All recorded settings are equal, and so are all figures."
    )
    turned = right.clone()
    turned[3] = ~turned[3]
    verdict = explain(made(right), made(turned)).verdict
    assert "All recorded settings are equal, yet 1 figure differs" in verdict
    assert "of the half width of its interval" in verdict
    renamed = made(right, model=replace(made(right).model, name="runs/elsewhere"))
    assert explain(made(right), renamed).verdict == (
        "All recorded settings are equal, and so are all figures."
    )
    same = made(right, settings={**made(right).settings, "limit": 60})
    assert explain(made(right), same).verdict == "1 setting differs, yet no figure does."


@pytest.mark.behaviour
def test_values_are_shown_short():
    assert shorten(["a", "b"], ["a"]) == "2 items, as 'b'"
    assert shorten(["a"], ["a", "b"]) == "1 item"
    assert shorten("x" * 100, "", 10) == "x" * 9 + "…"
    assert why("model.transform.std") != why("model.transform.other") != UNKNOWN


@pytest.mark.property
@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_record_is_an_error_of_ours(tmp_path: Path, seed):
    path = tmp_path / "a.json"
    write_record(made(draw(20, 0.6, 1)), path)
    table = json.loads(path.read_text())
    generator = torch.Generator().manual_seed(seed)
    part = list(table)[int(torch.randint(len(table), (1,), generator=generator))]
    table[part] = [None, 7, {"x": []}, [1]][seed % 4]
    path.write_text(json.dumps(table))
    try:
        read_record(path)
    except BifocalError:
        return
    # Some parts may be null or empty; then it is a record still.
    assert part in ("outcomes", "settings", "metrics", "intervals")
