"""Checkpoints and best models that the disk has changed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from faults.campaign import Outcome, fault
from faults.processes import Lab, assert_same

from bifocal.train import best, checkpoint


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit."""
    raw = bytearray(path.read_bytes())
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)


def cut(path: Path, draw: random.Random) -> None:
    """Cut the end off."""
    raw = path.read_bytes()
    path.write_bytes(raw[: draw.randrange(len(raw))])


def remove(path: Path, draw: random.Random) -> None:
    """Delete the file."""
    path.unlink()


DAMAGE = {"a bit flipped": flip, "cut off": cut, "missing": remove}


def damaged(folder: Path, draw: random.Random, times: int, kind: str) -> Outcome:
    """Damage every file of a checkpoint and of the best model, so many times each."""
    lab = Lab(folder, steps=9)
    whole = lab.reference()
    assert_same(lab.whole("run"), whole)
    out = folder / "run"
    checkpoints = out / checkpoint.FOLDER
    names = (f"step-{lab.steps:08d}", next(checkpoints.glob("best-*")).name)
    count = harmless = 0
    for name in names:
        shutil.copytree(checkpoints / name, folder / "kept")
        for file in sorted((folder / "kept").iterdir()):
            for _ in range(times if kind != "missing" else 1):
                DAMAGE[kind](checkpoints / name / file.name, draw)
                heard: list[str] = []
                newest = checkpoint.latest(out, heard.append)
                found = best.best(out, heard.append)
                if heard:
                    assert len(heard) == 1, heard
                    assert f"{name} is damaged" in heard[0] or "best is damaged" in heard[0]
                    assert (found is None) == name.startswith("best")
                    assert newest is not None
                    assert newest.name != name
                else:  # white space between the entries of a table, or a digit's last place
                    harmless += 1
                    assert file.suffix == ".json", file
                    assert kind == "a bit flipped", file
                count += 1
                shutil.copy(file, checkpoints / name / file.name)
        shutil.rmtree(folder / "kept")
    flip(checkpoints / names[0] / "optimizer.safetensors", draw)
    assert_same(lab.whole("run"), whole)
    text = (
        "told; the checkpoint before is taken, and the run ends with the same bits; a best model "
    )
    text += "gives its place to the next evaluation"
    if harmless:
        text += f" ({harmless} bits lay in the white space of a table, which says the same)"
    return Outcome(count, text)


def enter(kind: str) -> None:
    """Enter one kind of damage into the campaign."""

    @fault(f"checkpoint or best model: any of its files {kind}", short=2, long=40, forks=True)
    def inject(folder: Path, draw: random.Random, times: int) -> Outcome:
        return damaged(folder, draw, times, kind)


for _kind in DAMAGE:
    enter(_kind)
