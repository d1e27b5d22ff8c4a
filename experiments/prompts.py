"""Paper section 3.1.4 and figure 4: prompts, and ensembles of them, against the bare name.

    python -m experiments prompts

No training of its own: models of other claims, which learned from captions, classify labelled
pictures by the bare name, by one prompt, and by an ensemble in embedding space.
"""

from __future__ import annotations

from statistics import fmean

from bifocal.inputs.templates import template_set
from bifocal.settings import Settings
from experiments.claim import Claim, Comparison, Measure, paired
from experiments.figures import Panel, draw_dots
from experiments.models import labelled, opened_model, zero_shot_top1
from experiments.runs import ClaimSizes, Lab, Trained, effort

KINDS = ("bare name", "one prompt", "ensemble")


class Task(Settings):
    """Labelled pictures, and how their classes are said."""

    ground: str
    arm: tuple[str, ...] = ()
    """The ground's overrides, where the models are those of another claim's arm."""
    data: str
    prompt: str = "a photo of a {}."
    ensemble: str | tuple[str, ...] = "photos:80"
    """A set of templates, or the templates."""


class Sizes(ClaimSizes):
    """The ground is that of the first task; others name their own."""

    tasks: dict[str, Task]


def accuracies(runs: list[Trained], task: Task) -> dict[str, tuple[float, ...]]:
    """Return top-1 in per cent by kind of prompt, one value a model."""
    several = template_set(task.ensemble) if isinstance(task.ensemble, str) else task.ensemble
    templates = dict(zip(KINDS, (("{}",), (task.prompt,), several), strict=True))
    found: dict[str, tuple[float, ...]] = dict.fromkeys(KINDS, ())
    for run in runs:
        model = opened_model(run)
        pictures = labelled(run, model, task.data)
        for kind, some in templates.items():
            found[kind] += (100 * zero_shot_top1(model, pictures, some),)
    return found


def measure(sizes: Sizes, lab: Lab) -> Claim:
    """Classify every task by every kind of prompt."""
    runs = {name: lab.train(task.ground, {"": task.arm})[""] for name, task in sizes.tasks.items()}
    found = {name: accuracies(runs[name], task) for name, task in sizes.tasks.items()}
    draw_dots(
        lab.figure("prompts"),
        [Panel(name, "zero-shot top-1, %", values) for name, values in found.items()],
    )
    seeds = range(min(map(len, runs.values())))
    mean = {
        kind: [fmean(values[kind][seed] for values in found.values()) for seed in seeds]
        for kind in KINDS
    }
    bare, one, several = (mean[kind] for kind in KINDS)
    over = f"mean of {len(found)} data sets"
    return Claim(
        name="prompts",
        title="Prompts and their ensembles",
        where="section 3.1.4, figure 4",
        paper='On ImageNet "a photo of a {}." gains 1.3 points over the bare name and an ensemble '
        "of 80 prompts 3.5 more; together, over 36 data sets, almost 5 points on average.",
        here="No labels: models that learned from captions classify "
        + "; ".join(
            f"{name} ({task.data}, models of the ground {task.ground})"
            for name, task in sizes.tasks.items()
        )
        + ".",
        measures=tuple(Measure(f"{name}, top-1 in %", values) for name, values in found.items()),
        comparisons=(
            Comparison(f"one prompt − bare name, {over}", "+1.3", "points", paired(one, bare)),
            Comparison(f"ensemble − one prompt, {over}", "+3.5", "points", paired(several, one)),
            Comparison(f"ensemble − bare name, {over}", "+5", "points", paired(several, bare)),
        ),
        figure="Zero-shot accuracy by bare name, one prompt and an ensemble, by data set",
        larger="Models that know the classes from captions: of 200 Tiny ImageNet classes ours know "
        "a handful. A ResNet of three million web captions (CC3M) names a fifth of ImageNet's "
        "pictures, by open_clip's report, and there points show.",
        effort=effort(runs),
    )
