"""A tuned recipe carried over to a larger model by rule, as the paper carried RN50's to the others.

Paper section 2.5 and tables 18-20: first settings were searched on a ResNet-50 for one epoch; of
the larger models only the learning rate is lower, batch, warm-up and weight decay are the same, and
a Vision Transformer has its own beta2 and eps. Knows these rules; of an architecture it knows what
it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bifocal.settings import Table, merge
from bifocal.tune.recipe import nested, to_toml

PATCHES, CONVOLUTIONS = {"beta2": 0.98, "eps": 1e-6}, {"beta2": 0.999, "eps": 1e-8}
"""Adam's settings of a Vision Transformer and of a ResNet: paper table 18."""
OF_THE_SMALL_MODEL = (
    "model.preset",
    "model.image_size",
    "model.embed_dim",
    "model.vision",
    "model.text.width",
    "model.text.layers",
    "model.text.heads",
)
"""Settings that are the larger model's own business."""
OF_THE_SMALL_RUN = ("out", "init", "train.lock")
"""Settings that name its run, or weights of the small model."""
CONTINUED = {"ViT-L/14@336px": "ViT-L/14"}
"""Models that the paper did not train from scratch, with those that it went on from."""


@dataclass(frozen=True, slots=True)
class Tower:
    """What the rules ask of a model.

    Args:
        name: as `model.preset` has it; empty for one that has none.
        lr: the paper's learning rate for it; of an unpublished one that of RN50, which the paper
            tuned.
        published: whether it is one of the paper's.
        patches: whether its image tower is a Vision Transformer.
    """

    name: str
    lr: float
    published: bool
    patches: bool


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned recipe, and of its settings those that rules apply to, defaults filled in."""

    recipe: Mapping[str, Any]
    tower: Tower
    lr: float
    weight_decay: float
    warmup_steps: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Scaled:
    """A recipe for a larger model: its settings, and by dotted key the rule that each follows."""

    recipe: Table
    notes: Mapping[str, str]
    header: str

    def toml(self) -> str:
        """Return it as a file."""
        return to_toml(self.recipe, self.header, self.notes)


def scale(tuned: Tuned, target: Tower, out: str) -> Scaled:
    """Return the recipe of `target` that follows from a tuned one.

    Args:
        tuned: of the smaller model.
        target: the larger one.
        out: folder of its run.
    """
    ruled = _rules(tuned, target)
    dropped = [*OF_THE_SMALL_MODEL, *OF_THE_SMALL_RUN]
    if not target.patches:
        dropped.append("train.patch_dropout")
    if target.name in CONTINUED:
        dropped.append("train.steps")
    kept = _without(tuned.recipe, dropped)
    first = {"out": out, "model": {"preset": target.name}}
    recipe = merge(merge(first, kept), nested({key: value for key, (value, _) in ruled.items()}))
    recipe["out"] = out
    notes = {key: note for key, (_, note) in ruled.items()}
    return Scaled(recipe, notes, _header(tuned, target, recipe))


def _without(table: Mapping[str, Any], dropped: Sequence[str], above: str = "") -> Table:
    """Return a table without some of its settings, given by dotted key."""
    kept: Table = {}
    for key, value in table.items():
        if f"{above}{key}" in dropped:
            continue
        inner = _without(value, dropped, f"{above}{key}.") if isinstance(value, Mapping) else value
        if inner != {}:
            kept[key] = inner
    return kept


def _rules(tuned: Tuned, target: Tower) -> dict[str, tuple[Any, str]]:
    """Return the settings that have a rule, each with its value and the rule."""
    ratio = target.lr / tuned.tower.lr
    small = tuned.tower.name or "the tuned model"
    stands = "" if tuned.tower.published else " (RN50's, for an unpublished one)"
    ruled: dict[str, tuple[Any, str]] = {
        "model.preset": (target.name, "Sizes and resolution are the larger model's own."),
        "optim.lr": (
            float(f"{tuned.lr * ratio:.6g}"),
            f"Rule: the tuned {tuned.lr:.6g}, times the paper's rate for {target.name}, "
            f"{target.lr:g}, over that for {small}, {tuned.tower.lr:g}{stands}.",
        ),
        "optim.warmup_steps": (
            tuned.warmup_steps,
            "Rule: carried over; the paper's 2,000 steps hold for every size.",
        ),
        "optim.weight_decay": (
            tuned.weight_decay,
            "Rule: carried over; the paper's 0.2 holds for every size.",
        ),
        "data.batch_size": (
            tuned.batch_size,
            "Rule: carried over; the paper's 32,768 hold for every size. Where memory is short "
            "set train.chunk_size, which leaves the gradient as it is.",
        ),
    }
    if target.patches is not tuned.tower.patches:
        kind = "a Vision Transformer" if target.patches else "a ResNet"
        for key, value in (PATCHES if target.patches else CONVOLUTIONS).items():
            note = f"Rule: the paper's for {kind}; that of the other kind of tower does not carry."
            ruled[f"optim.{key}"] = (value, note)
    if target.name in CONTINUED:
        before = CONTINUED[target.name]
        note = f"Rule: one more epoch on top of {before}: set init to the folder of that run."
        ruled["train.epochs"] = (1, note)
    return ruled


def _header(tuned: Tuned, target: Tower, recipe: Table) -> str:
    small = tuned.tower.name or "a model of its own sizes"
    train = recipe.get("train", {})
    length = ", ".join(f"train.{k} = {train[k]}" for k in ("epochs", "steps") if k in train)
    lines = [
        f"{target.name}, from the best trial of a search on {small}, by the rules of the CLIP "
        "paper (section 2.5, tables 18-20). What has no rule beside it is carried over.",
    ]
    if target.name not in CONTINUED and length:
        lines.append(
            f"So is the length of the search's runs, {length}: the paper searched for one epoch "
            "and trained for 32."
        )
    return "\n".join(lines)
