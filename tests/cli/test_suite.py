"""Suites: every cell measured once, failures in the table, stopped and gone on with."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from bifocal.cli.compare import compare
from bifocal.cli.explain import explain
from bifocal.cli.suite import suite
from bifocal.data.sources import Reading
from bifocal.errors import ConfigError
from bifocal.evaluate import suite as module
from bifocal.evaluate.adamw_probe import AdamWProbe, adamw_probe
from bifocal.evaluate.frozen import frozen_features
from bifocal.evaluate.opening import as_read_by, open_split
from bifocal.evaluate.record import read_record
from bifocal.evaluate.suite import Place, run_suite
from bifocal.evaluate.suite_config import SuiteConfig
from bifocal.evaluate.suite_rows import Row, file_name
from bifocal.settings import load

SUITE = """
probe.epochs = 1
[models.one]
source = "{folder}/one"
[models.two]
source = "{folder}/two"
model = "tiny"
pretrained = "random"
[data."vtab/colours"]
test = "{folder}/colours"
train = "{folder}/colours"
language = "de"
tasks = ["zero_shot", "linear_probe"]
[data.captions]
test = "scenes:val:30"
"""


def benchmark_folder(root: Path, count: int = 30) -> None:
    """Noisy pictures of six colours in CLIP_benchmark's layout."""
    names = ["red", "green", "blue", "grey", "white", "black"]
    root.mkdir()
    (root / "classnames.txt").write_text("\n".join(names))
    (root / "zeroshot_classification_templates.txt").write_text("a {c}.\nthe {c} one.\n")
    levels = np.array([[160, 90, 90], [90, 160, 90], [90, 90, 160], [128] * 3, [220] * 3, [30] * 3])
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        (root / split).mkdir()
        (root / split / "nshards.txt").write_text("1")
        with tarfile.open(root / split / "0.tar", "w") as tar:
            for n in range(count):
                pixels = levels[n % 6] + draws.integers(-90, 91, 3) + np.zeros((16, 16, 3))
                picture = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(picture, "png")
                for suffix, content in (("png", picture.getvalue()), ("cls", b"%d" % (n % 6))):
                    member = tarfile.TarInfo(f"{n:03d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path, tiny_vit, random_pretrained) -> Path:
    for seed, name in enumerate(("one", "two")):
        random_pretrained(tiny_vit, seed).save(tmp_path / name)
    benchmark_folder(tmp_path / "colours")
    (tmp_path / "suite.toml").write_text(SUITE.format(folder=tmp_path))
    return tmp_path


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "suite" / "suite.json").read_text())["rows"]


def run(folder: Path, *overrides: str) -> list[dict]:
    suite(folder / "suite.toml", list(overrides), device="cpu")
    return rows_of(folder)


def configured(folder: Path, *overrides: str) -> tuple[SuiteConfig, Place]:
    config = load(SuiteConfig, folder / "suite.toml", overrides)
    return config, Place(folder / "suite", Path(), torch.device("cpu"))


def rows_only(folder: Path, *overrides: str) -> list[Row]:
    """The same without a table and a page."""
    return list(run_suite(*configured(folder, *overrides)))


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Tasks of the cells that were measured and not found."""
    tasks: list[str] = []
    plain = module.measure
    monkeypatch.setattr(
        module, "measure", lambda cell, *rest: tasks.append(cell.task) or plain(cell, *rest)
    )
    return tasks


@pytest.mark.behaviour
def test_a_suite_is_one_table_whose_fields_are_known(folder, capsys):
    rows = run(folder)
    assert max(map(len, capsys.readouterr().out.splitlines()[:9])) <= 80
    cells = [(row["dataset"], row["model"], row["task"]) for row in rows]
    tasks = [
        ("vtab/colours", "zeroshot_classification"),
        ("vtab/colours", "linear_probe"),
        ("captions", "zeroshot_retrieval"),
    ]
    assert cells == [(data, model, task) for model in ("one", "tiny") for data, task in tasks]
    assert rows[3]["pretrained"] == "random"
    assert rows[3]["model_fullname"] == "tiny random"
    assert rows[3]["language"] == "de"
    assert {"acc1", "acc5", "mean_per_class_recall"} <= rows[0]["metrics"].keys()
    assert {"lp_acc1", "lp_acc5", "lp_mean_per_class_recall"} == rows[1]["metrics"].keys()
    assert "image_retrieval_recall@5" in rows[2]["metrics"]
    for row in rows:
        assert row["intervals"]
        for name, one in row["intervals"].items():
            assert one["low"] <= row["metrics"][name] <= one["high"]
            assert one["seed"] == 0
        assert not row["error"]
    with (folder / "suite" / "suite.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["model_fullname"] for line in lines] == [row["model_fullname"] for row in rows]
    assert float(lines[0]["acc1"]) == rows[0]["metrics"]["acc1"]
    assert float(lines[0]["acc1_low"]) == rows[0]["intervals"]["acc1"]["low"]
    assert lines[0]["lp_acc1"] == ""
    page = (folder / "suite" / "suite.html").read_text()
    for word in ("Zero-shot classification", "Linear probes", "vtab/colours", "<svg"):
        assert word in page


@pytest.mark.behaviour
def test_templates_beside_the_data_are_used_and_probes_are_those_of_the_function(folder):
    rows = run(folder, "seed=2", "probe.epochs=2")
    first = read_record(Path(rows[0]["record"]))
    assert first.settings["templates"] == ["a {c}.", "the {c} one."]
    assert first.protocol == "clip_benchmark"
    pretrained = as_read_by(module.load(folder / "one"), "clip_benchmark")
    sets = {
        split: frozen_features(
            pretrained, open_split(str(folder / "colours"), Reading(), split).source, "projected"
        )
        for split in ("train", "test")
    }
    found = adamw_probe(sets["train"], sets["test"], None, AdamWProbe(epochs=2, seed=2))
    assert rows[1]["metrics"] == pytest.approx(found.metrics())
    probed = read_record(Path(rows[1]["record"]))
    assert probed.settings["epochs"] == 2
    assert probed.settings["train"]["samples"] == 30
    assert probed.intervals["lp_acc1"].seed == 2


@pytest.mark.property
def test_only_what_has_changed_is_measured_again(folder, measured):
    before = rows_only(folder)
    assert len(measured) == 6
    measured.clear()
    again = rows_only(folder)
    assert not measured
    assert all(row.reused for row in again)
    assert [row.metrics for row in again] == [row.metrics for row in before]
    rows_only(folder, "probe.epochs=2")
    assert measured == ["linear_probe"] * 2
    measured.clear()
    rows_only(folder, "probe.epochs=2", "data.captions.limit=20")
    assert measured == ["retrieval"] * 2
    measured.clear()
    # A record that was cut off is made again; so is one whose outcomes are missing.
    record = folder / "suite" / "records" / file_name("captions", "one", "retrieval")
    record.write_bytes(record.read_bytes()[:100])
    other = folder / "suite" / "records" / file_name("captions", "two", "retrieval")
    other.with_suffix(".safetensors").unlink()
    rows_only(folder, "probe.epochs=2", "data.captions.limit=20")
    assert measured == ["retrieval"] * 2


@pytest.mark.behaviour
def test_a_cell_that_fails_does_not_stop_the_others(folder, monkeypatch, capsys):
    plain = module.measure

    def measure(cell, *rest):
        if cell.task == "zero_shot":
            raise RuntimeError("out of memory")
        return plain(cell, *rest)

    monkeypatch.setattr(module, "measure", measure)
    with pytest.raises(typer.Exit) as ended:
        run(
            folder,
            "models.gone.source=nowhere",
            "data.lost.test=nowhere/*.tar",
            'data.captions.tasks=["retrieval","linear_probe"]',
        )
    assert ended.value.exit_code == 1
    rows = rows_of(folder)
    failed = {
        (row["dataset"], row["model"], row["task"]): row["error"] for row in rows if row["error"]
    }
    assert failed["vtab/colours", "one", "zeroshot_classification"] == "RuntimeError: out of memory"
    assert "learns from `train`" in failed["captions", "one", "linear_probe"]
    assert "nothing matches" in failed["lost", "tiny", "any"]
    assert "no file or folder 'nowhere'" in failed["captions", "gone", "any"]
    assert len([row for row in rows if not row["error"]]) == 4
    said = " ".join(capsys.readouterr().out.split())
    cells = f"{len(rows)} cells: 4 measured, 0 already there, {len(failed)} failed"
    assert cells in said
    assert "gone on vtab/colours, gone on captions, gone on lost: no file or folder" in said


@pytest.mark.behaviour
def test_records_of_a_suite_are_compared_and_explained(folder, capsys, tmp_path):
    rows = run(folder)
    paths = [Path(rows[n]["record"]) for n in (0, 3, 2)]
    capsys.readouterr()
    compare(paths[0], paths[1], seed=5, output=tmp_path / "c.json")
    said = capsys.readouterr().out
    assert max(map(len, [line for line in said.splitlines() if ".json" not in line])) <= 80
    found = json.loads((tmp_path / "c.json").read_text())
    one = found["metrics"][0]
    assert one["metric"] == "acc1"
    assert one["first"] - one["second"] == pytest.approx(one["paired"]["difference"]["value"])
    assert one["paired"]["difference"]["seed"] == found["seed"] == 5
    assert found["settings"] == []
    with pytest.raises(ConfigError, match="they differ in task"):
        compare(paths[0], paths[2])
    explain(paths[0], paths[1], output=tmp_path / "e.json")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    named = [one["name"] for one in json.loads((tmp_path / "e.json").read_text())["settings"]]
    assert named == ["model.name", "model.weights"]


@pytest.mark.behaviour
def test_mistakes_in_the_file_are_told_before_anything_runs(folder):
    with pytest.raises(ConfigError, match="did you mean 'protocol'"):
        run(folder, "protokol=paper")
    with pytest.raises(ConfigError, match="no place for a name"):
        run(folder, 'data.captions.templates=["a picture"]')
    with pytest.raises(ConfigError, match="models"):
        suite(folder / "suite.toml", ["models=[]"])


@pytest.mark.property
def test_a_stopped_suite_goes_on_where_it_was(folder, measured):
    whole = [row.metrics for row in rows_only(folder)]
    for path in (folder / "suite" / "records").iterdir():
        path.unlink()
    measured.clear()
    stopped = run_suite(*configured(folder))
    first = [next(stopped), next(stopped)]
    stopped.close()
    assert [row.metrics for row in first] == whole[:2]
    measured.clear()
    assert [row.metrics for row in rows_only(folder)] == whole
    assert len(measured) == 4
