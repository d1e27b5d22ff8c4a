"""The rule of verdicts, what claims share, and the page that they write."""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bifocal.errors import ConfigError, TrainingError
from bifocal.settings import build, read_toml
from experiments.__main__ import CLAIMS, PAGE_ORDER, run
from experiments.claim import (
    IN_PART,
    NOT,
    REPRODUCED,
    WEAK,
    Claim,
    Comparison,
    Measure,
    mean_of,
    paired,
)
from experiments.few_shot import worth
from experiments.objectives import pictures_to_reach, times_fewer
from experiments.page import write_page
from experiments.runs import Ground, Lab, train

ROOT = Path(__file__).parents[2]


def compared(*values: float, **more) -> Comparison:
    return Comparison("a − b", "more", "points", values, **more)


def claim(*comparisons: Comparison, name: str = "batch_size", title: str = "One") -> Claim:
    measure = Measure("top-1, %", {"a": (1.0, 2.0, 3.0), "b": (math.nan, 1.0, 2.0)})
    return Claim(name, title, "section 1", "P.", "H.", (measure,), comparisons, "F", "L.")


@pytest.mark.golden
def test_interval_is_students():
    """By hand: spread 1, three seeds, t(0.975, 2) = 4.3027: reach 4.3027 / √3 = 2.4842."""
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean.value == 2
    assert mean.low == pytest.approx(2 - 2.4842, abs=1e-4)
    assert mean.high == pytest.approx(2 + 2.4842, abs=1e-4)


@pytest.mark.behaviour
@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        (compared(1.9, 2.0, 2.1), REPRODUCED),
        (compared(-1.9, -2.0, -2.1), NOT),
        (compared(1.0, 2.0, 3.0), WEAK),
        (compared(1.9, 2.0, 2.1, bound=2.5), NOT),
        (compared(-0.1, 0.0, 0.1, bound=-1.0), REPRODUCED),
        (compared(-0.1, 0.0, 0.1, expected="same", bound=1.0), REPRODUCED),
        (compared(1.9, 2.0, 2.1, expected="same", bound=1.0), NOT),
        (compared(-1.9, -2.0, -2.1, expected="same", bound=1.0), NOT),
        (compared(0.9, 1.0, 1.1, expected="same", bound=1.0), WEAK),
        (compared(0.0, 0.0, 0.0), WEAK),
        (compared(2.0, 2.0), WEAK),
        (compared(), WEAK),
    ],
)
def test_verdict_follows_from_the_interval(comparison: Comparison, verdict: str):
    assert comparison.verdict == verdict


@pytest.mark.behaviour
def test_claim_is_reproduced_only_if_all_of_it_is():
    yes, no, unclear = compared(1.9, 2.0, 2.1), compared(-1.9, -2.0, -2.1), compared(1.0, 2.0, 3.0)
    assert claim(yes, yes).verdict == REPRODUCED
    assert claim(yes, no).verdict == claim(yes, unclear).verdict == IN_PART
    assert claim(no, unclear).verdict == NOT
    assert claim(unclear).verdict == WEAK


@pytest.mark.property
@pytest.mark.parametrize("seeds", [(1.0, 2.0, 3.0), (0.5, 1.0, 3.0), (-3.0, 0.0, 1.0)])
def test_as_many_seeds_as_are_needed_decide(seeds: tuple[float, ...]):
    """Repeating the seeds keeps mean and, nearly, spread: more of them than needed must decide."""
    needed = compared(*seeds).seeds_needed()
    assert needed is not None
    assert needed > len(seeds)
    repeated = seeds * math.ceil(needed * 1.5 / len(seeds))
    assert compared(*repeated).verdict != WEAK
    assert compared(0.0, 0.0, 0.0).seeds_needed() is None


@pytest.mark.golden
def test_pictures_to_reach_an_accuracy():
    curve = ([0.0, 100.0, 200.0], [0.1, 0.2, 0.4])
    assert pictures_to_reach(curve, 0.3) == pytest.approx(150)
    assert pictures_to_reach(curve, 0.1) == 0
    assert math.isnan(pictures_to_reach(curve, 0.5))


@pytest.mark.behaviour
def test_times_fewer_prefers_a_level_that_all_runs_reach():
    fast = [([0.0, 100.0], [0.0, 0.4])] * 3
    slow = [([0.0, 200.0], [0.0, 0.2])] * 3
    level, values, censored = times_fewer(fast, slow, (0.1, 0.3))
    assert (level, censored) == (0.1, False)
    assert values == pytest.approx([2.0] * 3)  # 25 pictures against 100
    level, values, censored = times_fewer(fast, slow, (0.3, 0.4))
    assert (level, censored) == (0.3, True)
    assert values == pytest.approx([math.log2(200 / 75)] * 3)  # 75 against more than 200
    assert times_fewer(slow, slow, (0.4,))[1] == ()


@pytest.mark.golden
def test_zero_shot_is_worth_examples_between_powers_of_two():
    shots, accuracies = (1, 2, 4), (10.0, 20.0, 40.0)
    assert worth(shots, accuracies, 30.0) == pytest.approx(2**1.5)
    assert worth(shots, accuracies, 20.0) == 2
    assert worth(shots, accuracies, 5.0) == 1
    assert worth(shots, accuracies, 50.0) == 4


@pytest.mark.property
def test_record_survives_json():
    whole = claim(compared(1.0, 2.0, 3.0))
    again = Claim.from_table(json.loads(json.dumps(whole.to_table())))
    assert again.comparisons == whole.comparisons
    assert again.verdict == whole.verdict
    assert repr(again) == repr(whole)  # NaN is not equal to itself


@pytest.mark.behaviour
def test_a_claim_replaces_its_part_of_the_page_and_no_other(tmp_path: Path):
    page = tmp_path / "claims.md"
    first = claim(compared(1.9, 2.0, 2.1), name="towers", title="Towers")
    second = claim(compared(1.0, 2.0, 3.0), name="prompts", title="Prompts, and more")
    write_page(page, [second], PAGE_ORDER)
    write_page(page, [first], PAGE_ORDER)
    before = page.read_text()
    assert before.index("## Towers") < before.index("## Prompts")
    assert "[Prompts, and more](#prompts-and-more)" in before
    assert "not reached by 1 of 3 seeds" in before
    write_page(page, [replace(first, comparisons=(compared(-1.9, -2.0, -2.1),))], PAGE_ORDER)
    after = page.read_text()
    assert "-2.00 (" not in before
    assert "-2.00 (" in after.partition("<!-- claim prompts")[0]
    assert after.partition("<!-- claim prompts")[2] == before.partition("<!-- claim prompts")[2]
    assert after.count("## Towers") == 1


@pytest.mark.behaviour
@pytest.mark.parametrize("name", ["two_cores.toml", "one_gpu.toml"])
def test_files_of_sizes_are_whole(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    tables = read_toml(Path("recipes/claims") / name)
    grounds = {key: build(Ground, table) for key, table in tables["grounds"].items()}
    assert set(tables) - {"grounds"} == set(CLAIMS) == set(PAGE_ORDER)
    for ground in grounds.values():
        assert ground.seeds >= 3
        assert ground.config().seed == 0
    for key, (sizes, _) in CLAIMS.items():
        asked = build(sizes, tables[key])
        named = [asked.ground, *(task.ground for task in getattr(asked, "tasks", {}).values())]
        assert set(named) <= set(grounds)


@pytest.mark.behaviour
def test_the_page_tells_every_claim_and_shows_its_figure():
    page = (ROOT / "docs/claims.md").read_text("utf-8")
    told = re.findall(r"^<!-- claim (\w+)$", page, re.MULTILINE)
    assert tuple(told) == PAGE_ORDER
    for image in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (ROOT / "docs" / image).stat().st_size > 10_000


def options(tmp_path: Path, *claims: str, sizes: Path) -> argparse.Namespace:
    return argparse.Namespace(
        claims=list(claims),
        sizes=sizes,
        out=tmp_path / "out",
        page=tmp_path / "claims.md",
        images=tmp_path / "images",
        jobs=1,
    )


@pytest.mark.behaviour
def test_an_unknown_claim_is_one_message(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'towers'"):
        run(options(tmp_path, "tower", sizes=ROOT / "recipes/claims/two_cores.toml"))


@pytest.mark.behaviour
def test_a_training_that_fails_is_one_message(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"ended with status 1: see .*run\.log"):
        train("no-recipe.toml", tmp_path / "run", [], threads=1)
    assert "no recipe at no-recipe.toml" in (tmp_path / "run.log").read_text()


@pytest.mark.property
def test_claims_share_runs_that_are_the_same_and_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    ground = Ground(recipe="recipes/flickr8k.toml", overrides=("train.steps=5",))
    longer = ground.model_copy(update={"overrides": ("train.steps=6",)})
    lab, other = Lab(Path("out"), {"a": ground}), Lab(Path("out"), {"a": longer})
    folder = lab.folder("a", ("x=1", "y=2"), 0)
    assert folder == lab.folder("a", ("y=2", "x=1"), 0)
    others = [
        lab.folder("a", ("x=1", "y=2"), 1),
        lab.folder("a", ("x=1",), 0),
        other.folder("a", ("x=1", "y=2"), 0),
    ]
    assert folder not in others
    assert len(set(others)) == 3
    with pytest.raises(ConfigError, match="no ground is named 'b'"):
        lab.folder("b", (), 0)


@pytest.mark.behaviour
def test_runs_that_are_there_become_a_record_a_figure_and_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Larger batches are made better by one point, so that the claim is reproduced."""
    monkeypatch.chdir(ROOT)
    sizes = tmp_path / "sizes.toml"
    sizes.write_text(
        '[grounds.g]\nrecipe = "recipes/flickr8k.toml"\noverrides = ["train.steps=8"]\n'
        '[batch_size]\nground = "g"\nbatches = [128, 256]\nnote = "A note."\n'
    )
    ground = build(Ground, read_toml(sizes)["grounds"]["g"])
    lab = Lab(tmp_path / "out", {"g": ground})
    from experiments.batch_size import arms

    settings = arms(ground, (128, 256))
    assert settings["batch 128"] == ()
    assert {"train.steps=4", "optim.lr=0.00141421"} <= set(settings["batch 256"])
    for gain, overrides in enumerate(settings.values()):
        for seed in range(3):
            folder = lab.folder("g", overrides, seed)
            folder.mkdir(parents=True)
            recall = 0.1 + 0.01 * gain + 0.001 * seed
            metrics = {f"val/{way}_recall@10": recall for way in WAYS}
            results = {"pairs": 1024, "steps": 8, "metrics": metrics}
            (folder / "results.json").write_text(json.dumps(results))
            row = {"step": 8, "kind": "train", "pairs": 1024, "pairs_per_second": 10.24}
            (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    run(options(tmp_path, "batch_size", sizes=sizes))
    record = Claim.from_table(json.loads((tmp_path / "out/batch_size/claim.json").read_text()))
    assert record.verdict == REPRODUCED
    assert record.effort == "6 trainings, 6,144 pictures seen in all"
    assert all(one.mean.value == pytest.approx(1.0) for one in record.comparisons)
    assert (tmp_path / "images/claims_batch_size.png").stat().st_size > 10_000
    page = (tmp_path / "claims.md").read_text()
    assert "**Reproduced.** 3 seeds an arm." in page
    assert "A note." in page
    assert "+1.00 (+1.00 … +1.00) points" in page


WAYS = ("image_to_text", "text_to_image")


@pytest.mark.property
def test_pairs_are_subtracted_seed_by_seed():
    assert paired((0.3, 0.5), (0.1, 0.2), 100) == pytest.approx((20.0, 30.0))
    with pytest.raises(ValueError, match="shorter"):
        paired((0.3, 0.5), (0.1,))
