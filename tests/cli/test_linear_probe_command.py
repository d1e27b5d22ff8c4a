"""`bifocal evaluate linear-probe`, and intervals beside the other evaluations' figures."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def model(tiny_vit, random_pretrained, tmp_path: Path) -> Path:
    random_pretrained(tiny_vit).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `train.tar` and `test.tar`: noisy pictures of four colours, 25 and 20 of each."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "classes.json").write_text(json.dumps(["red", "green", "blue", "grey"]))
    draws = np.random.default_rng(0)
    colours = np.array([[160, 90, 90], [90, 160, 90], [90, 90, 160], [128, 128, 128]])
    for name, count in (("train", 100), ("test", 80)):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for n in range(count):
                pixels = colours[n % 4] + draws.integers(-90, 91, 3) + np.zeros((16, 16, 3))
                picture = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(picture, "png")
                for suffix, content in (("png", picture.getvalue()), ("cls", b"%d" % (n % 4))):
                    member = tarfile.TarInfo(f"{name}-{n:03d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def sources(train: str, test: str) -> tuple[str, ...]:
    return ("--train", train, "--test", test)


SCENES = sources("scenes:seen:100", "scenes:seen:20")


@pytest.fixture
def colours(shards, monkeypatch) -> tuple[str, ...]:
    monkeypatch.setenv("BIFOCAL_DATA", str(shards))
    return sources("train.tar", "test.tar")


@pytest.mark.behaviour
def test_a_probe_prints_and_writes_its_figures(bifocal, model, colours, tmp_path):
    path = tmp_path / "probe.json"
    said = bifocal("evaluate", "linear-probe", model, *colours, "--seed", 3, "--details", path)
    assert said.status == 0, said.text
    for word in ("accuracy", "95% interval", "penultimate", "unconverged"):
        assert word in said.text
    found = json.loads(path.read_text())
    assert (found["train"], found["validation"], found["test"]) == (80, 20, 80)
    # Even a random tower tells some colours apart, and not all of them.
    assert 0.3 < found["accuracy"] < 1
    assert found["interval"]["low"] < found["accuracy"] < found["interval"]["high"]
    assert found["interval"]["seed"] == found["seed"] == 3
    assert found["C"] in [c for c, _ in found["swept"]]
    assert found["skipped"] == {"train": 0, "test": 0}
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.behaviour
def test_few_shots_have_a_line_each(bifocal, model, colours, tmp_path):
    path = tmp_path / "probe.json"
    arguments = ("--shots", "1,2", "--repeats", 2, "--kind", "projected")
    said = bifocal("evaluate", "linear-probe", model, *colours, *arguments, "--details", path)
    assert said.status == 0, said.text
    assert max(map(len, said.out.splitlines())) <= 80
    few = json.loads(path.read_text())["few_shot"]
    assert [one["shots"] for one in few] == [1, 2]
    assert all(len(one["results"]) == 2 and one["std"] is not None for one in few)
    assert few[0]["results"][0]["features"] == "projected"
    rows = [line for line in said.out.splitlines() if line.strip()[:2] in ("1 ", "2 ")]
    assert len(rows) == 2


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (sources("scenes:val:20", "scenes:val:20"), "no classes: a probe needs"),
        (sources("scenes:seen:50", "scenes:unseen:50"), "classes that no training picture has"),
        (sources("scenes:seen:1", "scenes:seen:1"), "a single example, so none"),
        ((*SCENES, "--shots", "16"), "16 shots need 16 a class and 4 to choose C by"),
        ((*SCENES, "--shots", "some"), "--shots is 'some': write counts"),
        ((*SCENES, "--shots", "0"), "--shots is '0': write counts"),
        ((*SCENES, "--kind", "all"), "'all' is not one of"),
    ],
)
def test_wrong_input_is_one_clear_message(bifocal, model, given, message):
    said = bifocal("evaluate", "linear-probe", model, *given)
    assert said.status != 0
    assert message in " ".join(said.text.replace("│", " ").split())


@pytest.mark.behaviour
def test_other_evaluations_show_their_intervals(bifocal, model, tmp_path):
    path = tmp_path / "figures.json"
    said = bifocal("evaluate", "zero-shot", model, "scenes:unseen:40", "--json", path)
    assert said.status == 0, said.text
    assert "95% interval" in said.text
    found = json.loads(path.read_text())
    for name, one in found["intervals"].items():
        assert one["low"] <= found["metrics"][name] <= one["high"]
    said = bifocal("evaluate", "retrieval", model, "scenes:val:12", "--json", path)
    assert said.status == 0, said.text
    found = json.loads(path.read_text())
    assert found["intervals"]["text_to_image_recall@1"]["units"] == 12
    said = bifocal("evaluate", "retrieval", model, "scenes:val:1", "--json", path)
    assert said.status == 0, said.text
    assert json.loads(path.read_text())["intervals"] == {}
