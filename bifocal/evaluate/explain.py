"""Why two results differ: every recorded setting in which they do, and what each can move.

Numbers of the same model on the same data differ between programs because of what papers leave
out: a resize, a full stop in a prompt, how ties count. A record holds all of these, so that the
answer is looked up instead of guessed. Reads records; measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch

from bifocal.evaluate.record import Record
from bifocal.identity import JSON

ABSENT = "(not recorded)"

WHY: dict[str, str] = {
    "task": "Other tasks, other questions: the figures are not of one kind.",
    "protocol": "A protocol fixes resize, prompts, ties and features; each can move points.",
    "model.name": "Only how the model was asked for; the hashes say which one it is.",
    "model.weights": "The weights are different ones: this is the difference between two models.",
    "model.config": "Another architecture or activation: even equal weights then say other things.",
    "model.tokenizer": "Other token ids for the same prompts: text features change, often a lot.",
    "model.transform.image_size": "More pixels show more detail: often a point or several.",
    "model.transform.mean": "Pictures are shifted: features move, as a rule by less than a point.",
    "model.transform.std": "Pictures are scaled: features move, as a rule by less than a point.",
    "model.transform.resize": "Pillow's resize or torch's: two levels, so only close calls turn.",
    "model.transform": "Pictures reach the tower changed; resize and crop alone can be a point.",
    "data.spec": "Only how the data were asked for; their identity says which they are.",
    "data.identity": "The examples are different ones, or their labels or class names are.",
    "data.samples": "Fewer examples move a figure by chance; in retrieval fewer are also easier.",
    "data.split": "Another part of the data: pictures that training saw score higher.",
    "settings.class_names": "The words for the classes steer zero-shot by several points.",
    "settings.templates": "Prompts: one or an ensemble is 1 to 5 points on ImageNet (paper 3.1.4).",
    "settings.rules.articles": "Whether 'a' becomes 'an' before a vowel: a few tenths of a point.",
    "settings.rules.logit_scale": "Multiplies all scores alike: ranks stay, probabilities do not.",
    "settings.rules.caption_prefix": "Words before every caption: about a point of retrieval.",
    "settings.rules.metric_names": "Only what metrics are called.",
    "settings.rules": "A rule of the protocol: how prompts, scores or strengths are made.",
    "settings.same": "Whether equal captions or pictures count as right: never lower if they do.",
    "settings.captions_sha256": "The captions are other texts, or in another order.",
    "settings.class_names_sha256": "The words for the classes steer zero-shot by several points.",
    "settings.prompts_sha256": "The filled prompts differ: a full stop, an article, a capital.",
    "settings.scores": "How a class is scored: cosine or likelihood of its prompts, sum or mean.",
    "settings.data_set": "Which set's metric of the paper is counted beside the others.",
    "settings.paper_metric": "What the paper counts: accuracies and means over classes differ.",
    "settings.threads": "Sums in another order: only near ties turn.",
    "settings.embedded": "Features read from disk: stored or computed in 16 bits, near ties turn.",
    "settings.ties": "Whether an equal score counts as found: much where scores collapse.",
    "settings.dtype": "Rounding of features: 16 bits turn about one close decision in a thousand.",
    "settings.device": "Another processor sums in another order: only near ties turn.",
    "settings.torch": "Another release may sum in another order: only near ties turn.",
    "settings.bifocal": "Another release: see its changes for what is measured otherwise.",
    "settings.batch_size": "Sums in another order in measuring; in training a probe, other steps.",
    "settings.seed": "Other splits and draws: the figure moves by chance, within its interval.",
    "settings.features": "Features before or after the projection: a probe may differ by points.",
    "settings.normalize": "Unit features take away the norm, which a probe may read.",
    "settings.metric": "Share of pictures or mean over classes: equal only for balanced classes.",
    "settings.C": "A consequence: the strength that the search chose.",
    "settings.weight_decay": "A consequence: the strength that the search chose.",
    "settings.train": "The probe has learned from other examples.",
    "settings.train_examples": "The probe has learned from more examples, or fewer.",
    "settings.validation_examples": "The strength was chosen by more examples, or fewer.",
    "settings.held_out": "Another part of the training examples chose the strength.",
    "settings.unconverged": "A consequence: fits that ended before their optimum.",
    "settings.draws": "How many draws of the few examples are averaged.",
    "settings.std": "A consequence: how the draws of the few examples scatter.",
    "settings.validation": "The strength of the penalty was chosen by other examples.",
    "settings.learning_rate": "A probe trained by steps stops elsewhere: it is not at its optimum.",
    "settings.epochs": "A probe trained by steps stops elsewhere: it is not at its optimum.",
    "settings.shots": "More examples a class: a probe's accuracy grows steeply with them.",
    "settings.skipped": "Pictures that could not be read are left out of the figure.",
}
UNKNOWN = "Recorded because it can decide the figure; how much is not known in general."
HARMLESS = ("name", "spec", "metric_names")
"""Last parts of names of settings that say how something was called, and decide nothing."""
KEYS = ("settings.cell",)
"""Hashes of other settings, which would only say the same again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not the same in two records."""

    name: str
    first: JSON
    second: JSON
    why: str

    @property
    def decides(self) -> bool:
        """Whether a figure can depend on it."""
        return self.name.rpartition(".")[2] not in HARMLESS


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a metric of two records is apart.

    Attributes:
        difference: first - second.
        share: of the wider interval's half width; None without intervals.
        turned: examples whose outcome differs; None where the examples are not the same ones.
    """

    metric: str
    first: float
    second: float
    difference: float
    share: float | None
    turned: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All differing settings, and all metrics that both records have."""

    settings: tuple[Difference, ...]
    gaps: tuple[Gap, ...]

    @property
    def verdict(self) -> str:
        """Return in a sentence or two what the records say."""
        apart = [gap for gap in self.gaps if gap.difference != 0]
        deciding = [one for one in self.settings if one.decides]
        if not self.gaps:
            return "The records have no metric in common."
        if deciding:
            count = f"{len(deciding)} setting" + ("s differ" if len(deciding) > 1 else " differs")
            figures = f"{len(apart)} of {len(self.gaps)} figures" if apart else "yet no figure"
            return f"{count}, and {figures} differ." if apart else f"{count}, {figures} does."
        if not apart:
            return "All recorded settings are equal, and so are all figures."
        worst = max(apart, key=lambda gap: abs(gap.difference))
        measured = (
            "its interval is not recorded"
            if worst.share is None
            else f"{worst.share:.2g} of the half width of its interval"
        )
        return (
            f"All recorded settings are equal, yet {len(apart)} figure"
            f"{'s differ' if len(apart) > 1 else ' differs'}, most of all "
            f"{worst.metric} by {abs(worst.difference):.4g} ({measured}). What is not recorded has "
            "decided: the order of sums over threads or kernels where few outcomes turned, "
            "otherwise a fault or a file that was changed."
        )


def explain(first: Record, second: Record) -> Explanation:
    """Return every setting in which two records differ, and how far their metrics are apart."""
    both = [name for name in first.metrics if name in second.metrics]
    gaps = tuple(_gap(first, second, name) for name in both)
    return Explanation(tuple(differences(first, second)), gaps)


def differences(first: Record, second: Record) -> list[Difference]:
    """Return the settings in which two records differ, in the order of a record."""
    one, two = flatten(first), flatten(second)
    return [
        Difference(name, one.get(name, ABSENT), two.get(name, ABSENT), why(name))
        for name in dict.fromkeys([*one, *two])
        if one.get(name, ABSENT) != two.get(name, ABSENT) and name not in KEYS
    ]


def flatten(record: Record) -> dict[str, JSON]:
    """Return every setting of a record by its dotted name; lists are values."""
    tables = {
        "task": record.task,
        "protocol": record.protocol,
        "model": asdict(record.model),
        "data": asdict(record.data),
        "settings": dict(record.settings),
    }
    return dict(_leaves(tables, ""))


def why(name: str) -> str:
    """Return in a sentence how a setting can move a figure."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        found = WHY.get(".".join(parts[:length]))
        if found:
            return found
    return UNKNOWN


def shorten(value: JSON, other: JSON, width: int = 60) -> str:
    """Return a value as people read it beside the other one: of lists, what only it holds."""
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        own = [str(item) for item in value if item not in other]
        text = f"{len(value)} item{'' if len(value) == 1 else 's'}" + (
            f", as '{own[0]}'" if own else ""
        )
    else:
        text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def _leaves(table: Mapping[str, JSON], prefix: str) -> list[tuple[str, JSON]]:
    found: list[tuple[str, JSON]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        match value:
            case Mapping():
                found += _leaves(value, f"{name}.")
            case tuple():
                found.append((name, list(value)))
            case _:
                found.append((name, value))
    return found


def _gap(first: Record, second: Record, metric: str) -> Gap:
    a, b = first.metrics[metric], second.metrics[metric]
    # Two figures that are no numbers are the same answer.
    difference = 0.0 if math.isnan(a) and math.isnan(b) else a - b
    widths = [
        (record.intervals[metric].high - record.intervals[metric].low) / 2
        for record in (first, second)
        if metric in record.intervals
    ]
    share = abs(difference) / max(widths) if widths and max(widths) > 0 else None
    turned = None
    one, two = first.outcomes.get(metric), second.outcomes.get(metric)
    if one is not None and two is not None and _same(first, second, metric):
        turned = int((one != two).sum())
    return Gap(metric, a, b, difference, share, turned)


def _same(first: Record, second: Record, metric: str) -> bool:
    """Return whether both are of the same examples in the same order."""
    one, two = first.units(metric), second.units(metric)
    alike = one is not None and two is not None and torch.equal(one, two)
    return alike and first.data.identity == second.data.identity
