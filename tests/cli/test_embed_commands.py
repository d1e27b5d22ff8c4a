"""`bifocal embed`, `bifocal search` and `bifocal evaluate contamination` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from bifocal.cli.contamination import contamination
from bifocal.cli.embed import embed
from bifocal.cli.search import search
from bifocal.errors import BifocalError
from bifocal.pretrained import load


@pytest.fixture
def model(tiny_vit, random_pretrained, tmp_path: Path) -> Path:
    random_pretrained(tiny_vit).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def call():
    app = typer.Typer()
    for verb in (embed, search, contamination):
        app.command(verb.__name__)(verb)

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments)])
        if isinstance(result.exception, BifocalError):
            raise result.exception
        assert result.exit_code == 0, result.output
        # A path stays whole, to be copied.
        lines = [line for line in result.stdout.splitlines() if "/" not in line]
        assert max(map(len, lines), default=0) <= 80
        return " ".join(result.output.split())

    return run


@pytest.mark.behaviour
def test_embedded_pictures_are_found_by_text_and_by_picture(call, model, tmp_path):
    out = tmp_path / "features"
    said = call("embed", model, "scenes:train:30", out, "--what", "both", "--device", "cpu")
    assert "30 × 16 float32" in said
    assert "120 × 16 float32" in said
    again = call("embed", model, "scenes:train:30", out, "--what", "both", "--device", "cpu")
    assert "120 × 16 float32" in again
    features = np.load(out / "images.npy", mmap_mode="r")
    clip = load(model)
    best = int((features @ clip.encode_text(["a red circle"]).numpy()[0]).argmax())
    said = call("search", out, "a red circle", "--top", 3)
    assert f"train-{best:09d}" in said
    assert said.count("train-") == 3
    assert "caption" in call("search", out, "a red circle", "--texts")
    picture = tmp_path / "red.PNG"
    Image.new("RGB", (20, 20), "red").save(picture)
    assert "train-" in call("search", out, picture, "--model", model)


@pytest.mark.behaviour
def test_wrong_input_is_one_clear_message(call, model, tmp_path, tiny_vit, random_pretrained):
    out, cpu = tmp_path / "features", ("--device", "cpu")
    call("embed", model, "scenes:train:10", out, *cpu)
    random_pretrained(tiny_vit, 1).save(tmp_path / "other")
    wrong = [
        (("embed", model, "scenes:train:11", out, *cpu), "holds other features: data"),
        (("embed", tmp_path / "other", "scenes:train:10", out, *cpu), "features: model weights"),
        (("search", tmp_path / "none", "a dog"), "no finished features in"),
        (("search", out, "a dog", "--texts"), "was made with what=images"),
        (("search", out, "none.jpg"), "cannot read the picture none.jpg"),
        (("search", out, "a dog", "--model", tmp_path / "other"), "made by another model"),
        (("contamination", model, "a", "b", "--threshold", 3), "a cosine is between -1 and 1"),
    ]
    for arguments, message in wrong:
        with pytest.raises(BifocalError, match=message):
            call(*arguments)


@pytest.mark.behaviour
def test_contamination_prints_figures_and_writes_pairs(
    call, model, tmp_path, tiny_vit, random_pretrained
):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments = ("contamination", model, "scenes:seen:40", "scenes:seen:20", "--out", out)
    arguments += ("--device", "cpu", "--json", figures)
    said = call(*arguments)
    for word in ("All", "Overlap", "Clean", "nearest cosines", "contamination.html"):
        assert word in said
    found = json.loads(figures.read_text())
    assert (found["images"], found["overlapping"], found["figure"]) == (20, 20, "top1")
    assert all(pair["test"] == pair["train"] and pair["bits"] == 0 for pair in found["pairs"])
    page = (out / "contamination.html").read_text()
    assert "Copies by looks" in page
    assert "To set a threshold by" in page
    random_pretrained(tiny_vit, 1).save(tmp_path / "detector")
    said = call(
        *("contamination", model, "scenes:train:40", "scenes:val:20", "--out", tmp_path / "two"),
        *("--device", "cpu", "--detector", tmp_path / "detector", "--json", figures),
        *("--threshold", 0.99, "--recall-at", 3),
    )
    assert "recall@3" in said
    found = json.loads(figures.read_text())
    assert found["figure"] == "image_to_text_recall@3"
    assert found["match"]["cosine"] == 0.99
    assert all(pair["cosine"] >= 0.99 or pair["bits"] <= 8 for pair in found["pairs"])
    assert "Around the threshold 0.99" in (tmp_path / "two" / "contamination.html").read_text()
