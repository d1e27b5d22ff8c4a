"""`bifocal plan`: a table for people, figures for programs, one message for a mistake."""

from __future__ import annotations

import json

import pytest


def amount(said, row: str) -> str:
    """Return what stands beside a row's name."""
    line = next(line for line in said.out.splitlines() if line.strip().startswith(row))
    return line.strip().removeprefix(row).split()[0]


@pytest.mark.behaviour
def test_a_published_model_is_planned(bifocal, tmp_path):
    path = tmp_path / "plan.json"
    said = bifocal(
        *(
            "plan",
            "ViT-B/32",
            "model.vision.layers=2",
            "model.text.layers=2",
            "--devices",
            256,
            "--precision",
            "bfloat16",
            "--chunk-size",
            64,
        ),
        *("--gradient-checkpointing", "--statistics", "float16", "--pairs", 400e6),
        *("--tflops", 125, "--utilisation", 0.4, "--memory", 32, "--json", path),
    )
    assert said.status == 0, said.text
    assert max(map(len, said.out.splitlines())) <= 80
    assert "…" not in said.out
    assert "32,768 pairs a step on 256 devices" in said.text
    assert amount(said, "largest chunk") == "128"
    assert "for 2 chunks" in said.text
    figures = json.loads(path.read_text())
    assert amount(said, "image tower") == f"{figures['parameters']['image']:,}"
    assert amount(said, "statistics") == f"{figures['memory']['statistics'] / 1e9:.3f}"
    assert figures["flops"]["cached"] == figures["flops"]["image"] + figures["flops"]["text"]
    assert figures["setup"]["towers"]["model"]["embed_dim"] == 512
    assert figures["memory"]["device"] == 32e9
    time = figures["time"]
    speed = 256 * 50e12 / figures["flops"]["total"]
    assert time["pairs_per_second"] == pytest.approx(speed)
    assert time["pairs"] == 400e6 * 32
    assert time["days"] == pytest.approx(400e6 * 32 / speed / 86_400)
    assert f"{24 * time['days']:.4g} hours for" in said.text


@pytest.mark.behaviour
def test_a_recipe_gives_the_defaults_and_this_machine_the_rate(bifocal, recipe, tmp_path):
    path = tmp_path / "plan.json"
    said = bifocal("plan", recipe, "train.chunk_size=8", "--measure", "--json", path)
    assert said.status == 0, said.text
    figures = json.loads(path.read_text())
    assert figures["setup"]["batch_size"] == 16
    assert figures["setup"]["chunks"] == 2
    assert figures["setup"]["towers"]["length"] == 16
    assert figures["time"]["pairs"] == 4 * 16
    assert 1e6 < figures["time"]["flops_per_second"] < 1e15
    said = bifocal("plan", recipe, "--chunk-size", 0, "--length", 9, "--json", path)
    assert "give --tflops, or --measure" in said.text
    figures = json.loads(path.read_text())
    assert figures["setup"]["chunks"] == 1
    assert figures["setup"]["towers"]["length"] == 9
    assert figures["time"]["days"] is None
    assert amount(bifocal("plan", recipe, "--memory", 0.0005), "largest chunk") == "none"


@pytest.mark.behaviour
def test_every_stage_of_a_recipe_is_planned(bifocal, recipe, tmp_path):
    stages = """
[[stage]]
train.steps = 3

[[stage]]
model.image_size = 64
train.lock = "image"
data.image_features = "features"
"""
    recipe.write_text(recipe.read_text() + stages)
    path = tmp_path / "plan.json"
    said = bifocal("plan", recipe, "--batch-size", 8, "--tflops", 1, "--json", path)
    assert said.status == 0, said.text
    figures = json.loads(path.read_text())
    small, large = figures["stages"]
    assert [one["time"]["pairs"] for one in (small, large)] == [3 * 8, 4 * 8]
    assert figures["time"]["pairs"] == 7 * 8
    assert figures["time"]["days"] == pytest.approx(small["time"]["days"] + large["time"]["days"])
    assert small["flops"]["image"] > large["flops"]["image"] == 0
    assert small["memory"]["batch"] == 8 * (3 * 32**2 + 8 * 16)
    assert large["memory"]["batch"] == 8 * (4 * 32 + 8 * 16)
    assert large["setup"]["towers"]["model"]["vision"]["image_size"] == 64
    assert "stage 1:" in said.text
    assert "features are stored" in said.out
    minutes = figures["time"]["days"] * 24 * 60
    assert said.out.splitlines()[-1] == f"all stages: {minutes:.3g} minutes for 56 pairs"
    measured = bifocal("plan", recipe, "--measure")
    assert measured.status == 0, measured.text
    assert "stages: give --tflops, or --measure" in bifocal("plan", recipe).out
    recipe.write_text(recipe.read_text().replace("steps = 4", "epochs = 2"))
    assert "stages: give --pairs" in bifocal("plan", recipe, "--tflops", 1).out


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ViT-B32",), "did you mean 'ViT-B/32'?"),
        (("none.toml",), "no recipe at none.toml"),
        (("ViT-nano/8", "--devices", 3), "32768 pairs does not divide among 3 devices"),
        (("ViT-nano/8", "--devices", 0), "does not divide among 0 devices"),
        (("ViT-nano/8", "--length", 78), "captions of 78 tokens for a context of 32"),
        (("ViT-nano/8", "--batch-size", -4), "'data.batch_size' is -4"),
        (("ViT-nano/8", "--chunk-size", -1), "'train.chunk_size' is -1"),
        (("ViT-nano/8", "--epochs", 0), "'train.epochs' is 0"),
        (("ViT-nano/8", "train.chunk=2"), "did you mean 'chunk_size'?"),
        (("ViT-nano/8", "--pairs", 0), "--pairs 0.0: expected a number above 0"),
        (("ViT-nano/8", "--memory", -1), "--memory -1.0: expected a number above 0"),
        (("ViT-nano/8", "--tflops", 0), "--tflops 0.0: expected a number above 0"),
        (("ViT-nano/8", "--tflops", 1, "--utilisation", 40), "expected a share, as 0.4"),
        (("ViT-nano/8", "--utilisation", 0.4), "give that as --tflops"),
        (("ViT-nano/8", "--tflops", 1, "--measure"), "--measure finds the rate itself"),
        (("ViT-nano/8", "train.steps=9", "--epochs", 2), "--epochs does not count where"),
        (("ViT-nano/8", "loss.form=sigmoid"), "needs a bias of the logits"),
    ],
)
def test_mistakes_get_one_message(bifocal, arguments, message):
    said = bifocal("plan", *arguments)
    assert said.status == 1
    assert message in said.text
    assert said.out == ""
