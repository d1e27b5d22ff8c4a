"""`bifocal train` and `bifocal demo`: what they leave behind, and what they say of a mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from bifocal.cli import demo, run_report


def folder(recipe, name="run"):
    return recipe.parent / name


@pytest.mark.behaviour
def test_a_run_leaves_a_model_results_metrics_and_a_report(bifocal, recipe):
    out = folder(recipe)
    said = bifocal("train", recipe, f"out={out}")
    assert said.status == 0, said.text
    assert "report" in said.out
    names = {path.name for path in out.iterdir()}
    assert {"model", "checkpoints", "results.json", "metrics.jsonl", "report.html"} <= names
    assert list((out / "tensorboard").iterdir())
    results = json.loads((out / "results.json").read_text())
    assert results["steps"] == 4
    assert results["pairs"] == 64
    metrics = results["metrics"]
    assert metrics["seen/chance"] == 0.01
    assert {"seen/top1", "val/image_to_text_recall@10", "val/loss"} <= metrics.keys()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"train", "evaluation"}
    train = [row for row in rows if row["kind"] == "train"][-1]
    assert train.keys() >= {"loss", "logit_scale", "lr", "grad_norm", "pairs_per_second"}
    page = (out / "report.html").read_text()
    headings = ("Training", "Captions find pictures", "Pictures find captions", "Settings")
    for part in (*headings, "Similarity", "Zero-shot: seen", "data:image/"):
        assert part in page, part
    assert not re.search(r'(src|href)="(?!data:|#)', page), "the report leans on other files"

    # Once more, it has nothing to train and says the same.
    said = bifocal("train", recipe, f"out={out}")
    assert said.status == 0
    assert "at step 4 of 4" in said.text
    again = json.loads((out / "results.json").read_text())
    assert again["metrics"] == metrics
    count = sum(
        json.loads(line)["kind"] == "evaluation"
        for line in (out / "metrics.jsonl").read_text().splitlines()
    )
    assert count == 1


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", r"unknown setting 'optim\.lrr' — did you mean 'lr'\?"),
        ("trian.steps=1", r"unknown setting 'trian' — did you mean 'train'\?"),
        ("model.vision.widht=8", r"unknown setting 'vision\.widht' — did you mean 'width'\?"),
        ("model.preset=ViT-B33", r"no architecture is named 'ViT-B33' — did you mean 'ViT-B/32'"),
        ("optim.lr=fast", r"'optim\.lr' is 'fast': Input should be a valid number"),
        ("optim.lr=-1", r"'optim\.lr' is -1: Input should be greater than 0"),
        ("train.steps=0", r"'train\.steps' is 0"),
        ("train.precision=float8", r"'train\.precision' is 'float8'.*'bfloat16' or 'float16'"),
        ("train.device=tpu", r"no device is named 'tpu'"),
        ("train.device=mps", r"this machine has no 'mps'"),
        ("optim=3", r"'optim' is a table, not a value"),
        ("optim.lr", r"cannot read the override 'optim\.lr': write it as section\.key=value"),
        ("data.train=none-*.tar", r"nothing matches 'none-\*\.tar'"),
        ("data.val=none.csv", r"cannot read the table none\.csv"),
        ("data.batch_size=61", r"batch of 61 pairs from data of 60"),
        ("tokenizer.path=none.json", r"no vocabulary at none\.json"),
        ("model.text.vocab_size=100", r"vocabulary of 100 has no room"),
        ("model.vision.heads=5", r"width 32 is not a multiple of heads 5"),
        ("evaluate.zero_shot.seen.data=scenes:sen", r"'scenes:sen' is no data"),
    ],
)
def test_a_mistake_is_one_message(bifocal, recipe, override, message):
    said = bifocal("train", recipe, f"out={folder(recipe)}", override)
    assert said.status == 1
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert re.search(message, " ".join(said.err.split())), said.err


@pytest.mark.behaviour
def test_recipes_that_cannot_be_read_are_named(bifocal, recipe, tmp_path):
    said = bifocal("train", tmp_path / "none.toml")
    assert said.status == 1
    assert "no recipe at" in said.err
    assert "none.toml" in said.err.replace("\n", "")
    recipe.write_text("[model\n")
    said = bifocal("train", recipe)
    assert said.status == 1
    assert "is not valid TOML" in said.text
    assert "line 1" in said.text
    recipe.write_text("[train]\nsteps = 1\n")
    assert "no model; set model.preset to one of RN50" in bifocal("train", recipe).text
    recipe.write_text("[model]\npreset = 'RN-nano'\n[train]\nsteps = 1\n")
    assert "'data.train' is missing" in bifocal("train", recipe).text
    recipe.write_text("[model]\npreset = 'RN-nano'\n[data]\ntrain = 'scenes'\n")
    assert "how long to train" in bifocal("train", recipe).text
    assert "no recipe" not in bifocal("train", tmp_path).text
    assert bifocal("train").status == 2


@pytest.mark.behaviour
def test_a_folder_that_cannot_be_made_is_named(bifocal, recipe):
    (recipe.parent / "file").write_text("in the way")
    said = bifocal("train", recipe, f"out={recipe.parent / 'file' / 'run'}")
    assert said.status == 1
    assert "cannot make the folder" in said.text


@pytest.mark.behaviour
def test_the_demo_shows_what_it_learned(bifocal, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "BINDING_PAIRS", 20)
    monkeypatch.setattr(run_report, "MATRIX", 8)
    out = tmp_path / "demo"
    said = bifocal(
        "demo",
        f"out={out}",
        "train.steps=2",
        "data.batch_size=8",
        "data.val=scenes:val:24",
        "tokenizer.samples=40",
        "evaluate.zero_shot.seen.data=scenes:seen:12",
        "evaluate.zero_shot.unseen.data=scenes:unseen:12",
    )
    assert said.status == 0, said.text
    assert max(len(line) for line in said.out.splitlines() if str(out) not in line) <= 80
    assert "Ten pictures of unseen combinations" in said.text
    assert "gap between seen and unseen" in said.text
    results = json.loads((out / "results.json").read_text())
    assert results["gap"] == pytest.approx(results["seen_top1"] - results["unseen_top1"])
    assert results["chance"] == 0.01
    assert results["unseen_among_unseen_chance"] == 0.04
    assert 0 <= results["word_order_relation"] <= 1
    assert (out / "predictions.png").read_bytes().startswith(b"\x89PNG")
    assert "Ten pictures of unseen combinations" in (out / "report.html").read_text()


LOST = """
import os, signal, weakref
from bifocal.cli.train import leaving_at_once
from bifocal.train.loop import stop_requests

class Thing:
    pass

def interrupt(reference):
    os.kill(os.getpid(), signal.SIGINT)

def drop():
    thing = Thing()
    reference = weakref.ref(thing, interrupt)  # what its callback raises is printed and forgotten
    del thing

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
with leaving_at_once():
    with stop_requests() as stop:
        drop()
        print("asked", stop.asked, flush=True)
        drop()
    print("went on")
"""


@pytest.mark.behaviour
def test_a_second_interrupt_ends_a_run_wherever_it_falls():
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "asked True\n", "stopped\n")
