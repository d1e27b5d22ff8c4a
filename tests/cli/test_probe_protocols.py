"""`bifocal evaluate linear-probe` by either protocol, with records that say what was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bifocal.evaluate.record import read_record
from bifocal.evaluate.statistics import interval

PAIR = ("--train", "scenes:seen:150", "--test", "scenes:seen:60")


@pytest.fixture
def model(tiny_vit, random_pretrained, tmp_path: Path) -> Path:
    random_pretrained(tiny_vit).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.behaviour
def test_clip_benchmarks_probe_prints_and_records(bifocal, model, tmp_path):
    path, figures = tmp_path / "r.json", tmp_path / "f.json"
    arguments = ("--protocol", "clip_benchmark", "--epochs", 2, "--seed", 4, "--limit", 130)
    said = bifocal(
        "evaluate", "linear-probe", model, *PAIR, *arguments, "--json", path, "--details", figures
    )
    assert said.status == 0, said.text
    assert max(map(len, said.out.splitlines())) <= 80
    for word in ("lp_acc1", "lp_acc5", "weight decay", "95% interval"):
        assert word in said.text
    record = read_record(path)
    assert (record.task, record.protocol) == ("linear_probe", "clip_benchmark")
    settings = record.settings
    for name, value in {"epochs": 2, "seed": 4, "normalize": True}.items():
        assert settings[name] == value
    assert (settings["features"], settings["dtype"]) == ("projected", "float32")
    assert settings["skipped"] == {"train": 0, "test": 0}
    assert (settings["train"]["samples"], record.data.samples) == (130, 60)
    right = record.outcomes["lp_acc1"]
    assert record.metrics["lp_acc1"] == right.double().mean().item()
    classes = record.outcomes["lp_mean_per_class_recall.class"]
    found = interval(record.outcomes["lp_mean_per_class_recall"], classes=classes)
    assert record.metrics["lp_mean_per_class_recall"] == pytest.approx(found.value)
    assert record.outcomes["unit"].tolist() == list(range(60))
    assert {one.seed for one in record.intervals.values()} == {4}
    assert json.loads(figures.read_text())["lp_acc1"] == record.metrics["lp_acc1"]


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("--protocol", "clip_benchmark", "--kind", "penultimate"),
            "probes projected features",
        ),
        (("--protocol", "clip_benchmark", "--shots", "1,2"), "--shots names 2 numbers"),
        (("--shots", "1,2", "--json", "r.json"), "--shots names 2 numbers"),
        (("--protocol", "clip_benchmark", "--learning-rate", "0"), "all are above zero"),
        (("--held-out", "1.5"), "held_out is 1.5; it is a share"),
        (("--held-out", "0"), "held_out is 0.0; it is a share"),
        (("--protocol", "clip_benchmark", "--shots", "90"), "90 shots need as many"),
    ],
)
def test_what_does_not_fit_a_protocol_is_refused(bifocal, model, given, message):
    said = bifocal("evaluate", "linear-probe", model, *PAIR, *given)
    assert said.status == 1
    assert message in said.text
