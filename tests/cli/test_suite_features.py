"""Features that a suite keeps: pictures are read once, and never those of something else."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bifocal.cli.suite import suite
from bifocal.data.sources import Reading
from bifocal.embed import Job
from bifocal.embed.encode import Encoder
from bifocal.errors import Interrupted
from bifocal.evaluate import cell
from bifocal.evaluate import suite as module
from bifocal.evaluate.opening import as_read_by, open_split
from bifocal.evaluate.suite import Place, run_suite
from bifocal.evaluate.suite_config import SuiteConfig
from bifocal.evaluate.suite_features import Kept, key
from bifocal.evaluate.suite_rows import Row
from bifocal.inputs.preprocess import Preprocess
from bifocal.settings import load

SUITE = """
protocol = "plain"
probe.epochs = 1
[models.one]
source = "{folder}/one"
[models.two]
source = "{folder}/two"
[data.colours]
test = "{folder}/colours"
train = "{folder}/colours"
[data.captions]
test = "scenes:val:30"
"""


def shard(path: Path, levels: list[int], labels: list[int]) -> None:
    """Flat grey pictures of equal size, with labels: only contents tell two shards apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for n, (level, label) in enumerate(zip(levels, labels, strict=True)):
            picture = io.BytesIO()
            Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(picture, "bmp")
            for suffix, content in (("bmp", picture.getvalue()), ("cls", b"%d" % label)):
                member = tarfile.TarInfo(f"{n:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path, tiny_vit, random_pretrained) -> Path:
    for seed, name in enumerate(("one", "two")):
        random_pretrained(tiny_vit, seed).save(tmp_path / name)
    colours = tmp_path / "colours"
    colours.mkdir()
    (colours / "classnames.txt").write_text("dark\ngrey\nlight\n")
    for split, first in (("train", 20), ("test", 60)):
        shard(
            colours / split / "0.tar",
            [first + 6 * n for n in range(24)],
            [n // 8 for n in range(24)],
        )
    (tmp_path / "suite.toml").write_text(SUITE.format(folder=tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def short_fits(monkeypatch) -> None:
    """Fits of the paper's probe end early: what they read is in question, not how they end."""
    plain = cell.linear_probe

    def few_steps(train, test, validation, probe):
        return plain(train, test, validation, replace(probe, max_iterations=2))

    monkeypatch.setattr(cell, "linear_probe", few_steps)


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """How many pictures each batch of a tower had."""
    batches: list[int] = []
    plain = Encoder.image_features

    def count(self, batch):
        batches.append(sum(one.image is not None for one in batch))
        return plain(self, batch)

    monkeypatch.setattr(Encoder, "image_features", count)
    return batches


def rows(folder: Path, *overrides: str) -> list[Row]:
    config = load(SuiteConfig, folder / "suite.toml", list(overrides))
    found = list(run_suite(config, Place(folder / "suite", Path(), torch.device("cpu"))))
    assert not [row.error for row in found if row.error]
    return found


@pytest.mark.property
def test_a_model_reads_the_pictures_of_a_data_set_once(folder, seen):
    clip = ("protocol=clip_benchmark",)
    rows(folder, *clip)
    # Two models: 24 test and 24 training pictures of colours, 30 with captions.
    assert sum(seen) == 2 * (24 + 24 + 30)
    seen.clear()
    for more in ('data.colours.templates=["the {} one"]', "probe.epochs=2", "seed=3"):
        assert not all(row.reused for row in rows(folder, *clip, more))
    for record in (folder / "suite" / "records").iterdir():
        record.unlink()
    rows(folder, *clip)
    assert not seen, "other prompts, probes and seeds read no picture"
    rows(folder, *clip, "data.colours.limit=12")
    assert sum(seen) == 2 * (12 + 12)
    seen.clear()
    rows(folder)
    # The plain protocol resizes otherwise, and its probe reads features before the projection.
    assert sum(seen) == 2 * (24 + 24 + 24 + 30)
    seen.clear()
    # The paper's captions are other texts; its pictures are read as the plain protocol reads them.
    rows(folder, "protocol=paper", 'data.captions.tasks=["retrieval"]')
    assert sum(seen) == 2 * 30


@pytest.mark.property
@pytest.mark.parametrize("protocol", ["plain", "paper", "clip_benchmark"])
def test_figures_are_those_of_pictures_read_anew(folder, protocol):
    kept = rows(folder, f"protocol={protocol}")
    for record in (folder / "suite" / "records").iterdir():
        record.unlink()
    anew = rows(folder, f"protocol={protocol}", "keep_features=false")
    for one, other in zip(kept, anew, strict=True):
        equal = one.metrics == other.metrics
        assert equal or one.task == "zeroshot_retrieval"
        assert one.metrics == pytest.approx(other.metrics, nan_ok=True)
    assert len(kept) == len(anew) == 6


@pytest.mark.property
def test_features_are_named_by_all_that_decides_them(folder):
    clip = module.load(folder / "one")
    reading = Reading()
    test, train = (open_split(str(folder / "colours"), reading, s) for s in ("test", "train"))
    job = Job(batch_size=250)
    pillow = as_read_by(clip, "clip_benchmark")
    size = clip.preprocess.image_size
    dark = replace(clip, preprocess=Preprocess(image_size=size, mean=(0.1, 0.1, 0.1)))
    found = {
        "plain": key(clip, test, job),
        "weights": key(module.load(folder / "two"), test, job),
        "resize": key(pillow, test, job),
        "normalisation of pictures": key(dark, test, job),
        "split": key(clip, train, job),
        "unit norm": key(clip, test, job.model_copy(update={"kind": "penultimate"})),
        "precision": key(clip, test, job.model_copy(update={"precision": "bfloat16"})),
        "stored as": key(clip, test, job.model_copy(update={"dtype": "float16"})),
        "samples": key(clip, test, job.model_copy(update={"limit": 5})),
        "captions too": key(clip, test, job.model_copy(update={"what": "both"})),
        "another set of one size": key(clip, open_split("scenes:val:24", reading), job),
    }
    assert len(set(found.values())) == len(found)
    # How something is called, and how much may be unreadable, decide nothing.
    called = job.model_copy(update={"max_bad": 0.5})
    assert key(clip, replace(test, spec="elsewhere"), called) == found["plain"]


@pytest.mark.behaviour
def test_labels_that_were_corrected_in_place_are_read(folder, measured_anew):
    asked = 'tasks=["zero_shot"]', 'data.captions.tasks=["retrieval"]'
    before = rows(folder, *asked)
    measured_anew.clear()
    assert all(row.reused for row in rows(folder, *asked))
    path = folder / "colours" / "test" / "0.tar"
    size, labels = path.stat().st_size, [2 - n // 8 for n in range(24)]
    shard(path, [60 + 6 * n for n in range(24)], labels)
    assert path.stat().st_size == size
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)
    after = rows(folder, *asked)
    assert measured_anew == ["zero_shot"] * 2
    kept = Kept(folder / "suite" / "features", 1, lambda _: None)
    clip, opened = module.load(folder / "one"), open_split(str(folder / "colours"), Reading())
    clip = as_read_by(clip, "plain")
    assert kept.of(clip, opened, None).labels.tolist() == labels
    assert len(after) == len(before)


@pytest.fixture
def measured_anew(monkeypatch) -> list[str]:
    tasks: list[str] = []
    plain = module.measure
    monkeypatch.setattr(
        module, "measure", lambda one, *rest: tasks.append(one.task) or plain(one, *rest)
    )
    return tasks


@pytest.mark.behaviour
def test_a_suite_that_is_interrupted_says_how_it_goes_on(folder, monkeypatch, seen, capsys):
    plain = module.measure

    def measure(one, *rest):
        if one.task == "linear_probe":
            plain(one, *rest)
            raise KeyboardInterrupt
        return plain(one, *rest)

    monkeypatch.setattr(module, "measure", measure)
    with pytest.raises(Interrupted, match="the same command goes on"):
        suite(folder / "suite.toml", device="cpu")
    assert "1 cells: 1 measured" in capsys.readouterr().out, "what is measured is shown"
    monkeypatch.setattr(module, "measure", plain)
    read = sum(seen)
    seen.clear()
    suite(folder / "suite.toml", device="cpu")
    assert read + sum(seen) == 2 * (24 + 24 + 24 + 30), "no picture was read twice"


@pytest.mark.behaviour
def test_features_that_cannot_be_kept_are_a_failed_cell(folder):
    (folder / "suite").mkdir()
    (folder / "suite" / "features").write_text("in the way")
    config = load(SuiteConfig, folder / "suite.toml", ["data.captions.tasks=['retrieval']"])
    found = list(run_suite(config, Place(folder / "suite", Path(), torch.device("cpu"))))
    assert all("features" in row.error and "Not a directory" in row.error for row in found)
