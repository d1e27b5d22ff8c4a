"""Steps that cannot be applied, in runs of several processes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from real_worlds import run_world
from safetensors.torch import load_file
from train import apart, rejecting

from bifocal.train.rejected import REJECTED
from bifocal.world import ALONE


def rows(out: Path) -> dict[tuple[int, int], dict[str, Any]]:
    lines = (out / REJECTED).read_text("utf-8").splitlines()
    return {(row["step"], row["rank"]): row for row in map(json.loads, lines)}


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoints/step-*/model.safetensors"))


def assert_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare what two processes or runs say of a step: the batch is summed in another order."""
    assert one["parameters"].keys() == other["parameters"].keys()
    own = ("loss", "grad_norm", "logit_scale")
    pairs = {"": tuple({kind: row[kind] for kind in own} for row in (one, other))}
    pairs |= {name: (told, other["parameters"][name]) for name, told in one["parameters"].items()}
    for name, (found, expected) in pairs.items():
        for kind, number in expected.items():
            if isinstance(number, float):
                assert found[kind] == pytest.approx(number, rel=1e-3, abs=1e-6), (name, kind)
            else:  # a count, or the name of what is no number
                assert found[kind] == number, (name, kind)


@pytest.mark.property
@pytest.mark.parametrize("spread", [False, True])
def test_a_rejected_step_is_told_as_by_one_process(tmp_path, spread):
    alone, out = tmp_path / "alone", tmp_path / "run"
    rejecting.train(alone, ALONE, False)
    run_world(2, tmp_path / "said", rejecting.main, out, spread)
    expected, found = rows(alone), rows(out)
    assert list(expected) == [(step, 0) for step in rejecting.POISON]
    assert sorted(found) == [(step, rank) for step in rejecting.POISON for rank in (0, 1)]
    for step in rejecting.POISON:
        both = [found[step, rank] for rank in (0, 1)]
        assert both[0]["keys"] + both[1]["keys"] == expected[step, 0]["keys"]
        assert both[0]["parameters"] == both[1]["parameters"]
        assert_alike(both[0], expected[step, 0])
    # Both must be there to be told apart: what is finite, what is not, and some of a matrix.
    parameters = found[2, 0]["parameters"]
    assert math.isfinite(parameters["visual.conv1.weight"]["grad_norm"])
    assert parameters["text_projection"]["grad_norm"] == "nan"
    assert 0 < parameters["token_embedding.weight"]["not_finite"] < 600 * 16

    saved, whole = checkpoints(out), checkpoints(alone)
    good = [step for step in range(1, rejecting.STEPS + 1) if step not in rejecting.POISON]
    for found_checkpoints in (saved, whole):
        assert [int(path.parent.name[-8:]) for path in found_checkpoints] == good
        assert len({path.read_bytes() for path in found_checkpoints}) == len(good)
    weights, unsplit = load_file(saved[-1]), load_file(whole[-1])
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, unsplit[name], rtol=1e-3, atol=1e-4)


@pytest.mark.behaviour
def test_processes_that_see_different_checkpoints_are_refused(tmp_path):
    rejecting.train(tmp_path / "0", ALONE, False)
    said = run_world(2, tmp_path / "said", apart.main, tmp_path)
    for one in said:
        assert f"at the steps {rejecting.STEPS}, 0: all of them must see the same files" in one
