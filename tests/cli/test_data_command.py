"""`bifocal data`: packs, checks and sums up; one message for a mistake, 80 columns, a status."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def table(tmp_path):
    """Ten pictures with captions, one of them a file name and one picture missing."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["image,caption"]
    for n in range(10):
        coarse = np.random.default_rng(n).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 60)).save(folder / f"{n}.jpg")
        rows.append(f"{n}.jpg,{'IMG_0007' if n == 7 else f'picture {chr(97 + n)} of a few'}")
    rows.append("gone.jpg,never there")
    path = folder / "pairs.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.mark.behaviour
def test_pack_then_check_then_stats(bifocal, table, tmp_path):
    out = tmp_path / "out"
    options = ("--pairs", 4, "--size", 32, "--format", "jpeg", "--shuffle", 1, "--workers", 1)
    said = bifocal("data", "pack", table, out, *options)
    assert said.status == 0, said.text
    assert "10 pairs in 3 shard(s)" in said.text
    assert "1 bad samples left out: 1x missing picture in pairs.csv" in said.text
    assert bifocal("data", "pack", table, out, *options).out == said.out
    packed = json.loads((out / "pack.json").read_text())
    assert packed["pairs"] == 10
    assert packed["settings"]["encoding"] == {"size": 32, "format": "jpeg", "quality": None}

    page, figures = tmp_path / "page.html", tmp_path / "check.json"
    said = bifocal("data", "check", out, "--html", page, "--json", figures, "--workers", 1)
    assert said.status == 0, said.text
    assert max(map(len, said.out.splitlines()[1:])) <= 80
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(figures.read_text())["faults"]["caption: file name"] == 1
    assert bifocal("data", "check", out, "--strict", "--workers", 1).status == 3

    said = bifocal("data", "stats", out, "--sample", 5, "--json", figures)
    assert said.status == 0, said.text
    assert max(map(len, said.out.splitlines())) <= 80
    assert json.loads(figures.read_text())["samples"] == 10
    assert json.loads(figures.read_text())["shorter_side"]["most"] == 32


@pytest.mark.behaviour
def test_clean_data_satisfy_a_strict_check(bifocal):
    said = bifocal("data", "check", "scenes:train:20", "--strict", "--workers", 1)
    assert said.status == 0, said.text


@pytest.mark.behaviour
def test_pictures_shared_with_other_data_are_named(bifocal, table, tmp_path):
    out = tmp_path / "out"
    bifocal("data", "pack", table, out, "--workers", 1)
    said = bifocal("data", "check", table, "--against", out, "--workers", 1)
    assert "90.91 %" in said.text.replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pack", "scenes:train:5"), "give one source or more, and last the folder"),
        (("pack", "none/*.tar", "out"), "nothing matches"),
        (("pack", "scenes:train:5", "out", "--quality", 50), "does not go with the format 'keep'"),
        (("pack", "scenes:train:5", "out", "--size", -1), "a size of -1"),
        (("pack", "scenes:train:5", "out", "--pairs", 0), "at least 1"),
        (("pack", "scenes:train:5", "taken/x"), "cannot write"),
        (("check", "none/*.tar"), "nothing matches"),
        (("check", "scenes:train:5", "--html", "taken/x.html"), "cannot write"),
        (("check", "scenes:train:5", "--tokenizer", "none.json"), "no vocabulary"),
        (("stats", "scenes:odd"), "is no data"),
    ],
)
def test_mistakes_get_one_message(bifocal, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file, not a folder")
    said = bifocal("data", *arguments)
    assert said.status == 1
    assert message in said.text
