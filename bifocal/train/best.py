"""The model of a run's best evaluation, kept when the checkpoints of its time are gone.

`out/best` is a link to a model folder among the checkpoints. Both are written beside what they
replace and then renamed, so that the link leads to a whole model at any moment.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError

from bifocal.errors import CheckpointError, ConfigError, did_you_mean
from bifocal.train.checkpoint import FOLDER, RUN_CONFIG
from bifocal.train.config import RunConfig
from bifocal.train.folders import UNFINISHED, fault, one_message, sync, whole_folder, write_sealed
from bifocal.train.hooks import Metrics
from bifocal.train.state import Run

BEST, RECORD = "best", "best.json"
ZERO_SHOT = {"top1": True, "top5": True, "mean_per_class_recall": True}
RETRIEVAL = {
    f"{way}_{name}": higher
    for way in ("image_to_text", "text_to_image")
    for name, higher in (
        *((f"recall@{k}", True) for k in (1, 5, 10)),
        ("median_rank", False),
    )
} | {"loss": False}
"""Figures of an evaluation by which a model can be the best, and whether more is better."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far: of which figure, how good, and when."""

    metric: str
    value: float
    step: int
    data: str
    """Identity of the data that the run trains on."""


def check_metric(config: RunConfig) -> None:
    """Look whether the evaluations of a run give the figure of `train.keep_best`.

    Raises:
        ConfigError: they do not; the message lists those that they give.
    """
    name, known = config.train.keep_best, figures(config)
    if not name or name in known:
        return
    if not known:
        raise ConfigError(
            f"train.keep_best='{name}', but the run evaluates nothing: set data.val or "
            "evaluate.zero_shot"
        )
    raise ConfigError(
        f"no evaluation of the run gives '{name}', which train.keep_best asks for"
        f"{did_you_mean(name, known)}; there are {', '.join(known)}"
    )


def figures(config: RunConfig) -> dict[str, bool]:
    """Return the figures that can be best, by name, and whether more is better."""
    sets = dict.fromkeys(config.evaluate.zero_shot, ZERO_SHOT)
    if config.data.val and config.evaluate.retrieval:
        sets["val"] = RETRIEVAL
    return {f"{name}/{key}": up for name, table in sets.items() for key, up in table.items()}


def keep(run: Run, metrics: Metrics, out: Path) -> None:
    """Keep the model of `run` if no evaluation before was as good; the leading process calls.

    A run that was resumed evaluates once more what it had evaluated after its checkpoint: the same
    figures, which leave everything as it is.

    Args:
        run: as it was measured.
        metrics: the figures of its evaluation.
        out: the run's folder.

    Raises:
        CheckpointError: the disk is full or not writable; the best model before is untouched.
    """
    metric = run.config.train.keep_best
    if not metric:
        return
    found = Best(metric, metrics[metric], run.step, run.cursor.identity)
    before = best(out)
    if before is None or _beats(found, before, figures(run.config)[metric]):
        folder = out / FOLDER / f"{BEST}-{run.step:08d}"
        with one_message(f"write the best model to {folder}"):
            _write(run, found, folder)
            _lead(out / BEST, folder)
    with one_message(f"delete older models in {out / FOLDER}"):
        for other in (out / FOLDER).glob(f"{BEST}-*"):
            if not (out / BEST).samefile(other):
                shutil.rmtree(other)


def best(out: Path, say: Callable[[str], None] = lambda message: None) -> Best | None:
    """Return the best evaluation so far, if its model is whole; else `say` is told."""
    folder = out / BEST
    if not folder.exists():
        return None
    damage = fault(folder, RECORD)
    if damage is None:
        table = json.loads((folder / RECORD).read_text("utf-8"))
        return Best(**{key: table[key] for key in Best.__slots__})
    say(f"{folder} is damaged ({damage}): the next evaluation takes its place")
    return None


def _beats(found: Best, before: Best, higher: bool) -> bool:
    """Return whether an evaluation is better; one of another figure or other data always is."""
    if (found.metric, found.data) != (before.metric, before.data) or math.isnan(before.value):
        return True
    return found.value > before.value if higher else found.value < before.value


def _write(run: Run, found: Best, final: Path) -> None:
    try:
        with whole_folder(final) as folder:
            run.pretrained.save(folder)
            (folder / RUN_CONFIG).write_text(run.config.to_json(), "utf-8")
            write_sealed(folder, RECORD, asdict(found))
    except (SafetensorError, CheckpointError) as error:
        raise OSError(str(error)) from None


def _lead(link: Path, folder: Path) -> None:
    """Let `link` lead to `folder`, without a moment in which it leads nowhere."""
    unfinished = link.with_name(UNFINISHED + link.name)
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(folder.relative_to(link.parent), target_is_directory=True)
    unfinished.replace(link)
    sync(link.parent)
