"""`bifocal demo`: trains a CLIP from nothing in minutes and shows that it names the unseen."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.run_report import prediction, write_report
from bifocal.cli.train import Trained, train_run, write_results
from bifocal.data.scenes import TEMPLATES, SceneClassSource, binding_pairs
from bifocal.evaluate.binding import binding_accuracy
from bifocal.report.gallery import Prediction, predictions
from bifocal.report.page import Section
from bifocal.settings import merge, parse_override, read_toml
from bifocal.train.folders import one_message
from bifocal.train.recipe import resolve_run
from bifocal.world import World, pick_device

SHOWN = 10
BINDING_PAIRS = 1000


def demo(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings on top of the demo's, as train.steps=50.", metavar="KEY=VALUE…"
        ),
    ] = None,
) -> None:
    """Train on built-in scenes, then name combinations that training never showed."""
    console = Console()
    with resources.as_file(resources.files("bifocal.cli") / "demo.toml") as path:
        table = read_toml(path)
    for override in overrides or []:
        table = merge(table, parse_override(override))
    config = resolve_run(table, "demo.toml")
    console.print(
        "Training a CLIP from nothing on drawn scenes. A quarter of all combinations of colour "
        "and shape is held out: the model will be asked to name them.",
        highlight=False,
    )
    trained = train_run(config, console, World(device=pick_device(config.train.device)))
    headline = _headline(trained)
    items = _predictions(trained)
    results = write_results(trained, headline)
    report = _write_report(trained, headline, items)
    _show(trained, headline, items, console)
    console.print(f"results {results}\nreport  {report}", highlight=False)


def _write_report(trained: Trained, headline: Mapping[str, float], items: list[Prediction]) -> Path:
    from bifocal.report.grid import picture_grid  # matplotlib is slow to start

    out, metrics = trained.out, {**trained.metrics, **headline}
    section = Section("Ten pictures of unseen combinations", [predictions(items)])
    with one_message(f"write the report to {out}"):
        picture_grid(items, out / "predictions.png")
        return write_report(trained.run, trained.evaluations, metrics, out, [section])


def _headline(trained: Trained) -> dict[str, float]:
    """Return the demo's own figures beside those of every run."""
    unseen = trained.evaluations.labelled["unseen"]
    assert isinstance(unseen, SceneClassSource)
    seen_top1 = trained.metrics["seen/top1"]
    unseen_top1 = trained.metrics["unseen/top1"]
    among = trained.evaluations.zero_shot["unseen"].among(unseen.unseen_classes).metrics()
    pairs = binding_pairs(BINDING_PAIRS, trained.run.config.seed, trained.run.preprocess.image_size)
    binding = binding_accuracy(trained.run.pretrained, pairs)
    return {
        "unseen_top1": unseen_top1,
        "seen_top1": seen_top1,
        "gap": seen_top1 - unseen_top1,
        "chance": trained.metrics["unseen/chance"],
        "unseen_among_unseen_top1": among["top1"],
        "unseen_among_unseen_chance": among["chance"],
    } | {f"word_order_{kind}": value for kind, value in binding.items()}


def _predictions(trained: Trained) -> list[Prediction]:
    source = trained.evaluations.labelled["unseen"]
    samples = [source.read(n) for n in range(SHOWN)]
    images = [sample.image for sample in samples if isinstance(sample.image, np.ndarray)]
    classifier = trained.run.pretrained.zero_shot(source.class_names, TEMPLATES)
    return [
        prediction(image, row, source.class_names, sample.label)
        for image, row, sample in zip(images, classifier(images), samples, strict=True)
    ]


def _show(
    trained: Trained, headline: Mapping[str, float], items: list[Prediction], console: Console
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Ten pictures of unseen combinations")
    for title in ("picture shows", "model says", "probability", "second"):
        table.add_column(title, justify="right" if title == "probability" else "left")
    for item in items:
        (first, probability), (second, _) = item.labels[:2]
        colour = "green" if item.correct else "red"
        table.add_row(item.truth, f"[{colour}]{first}[/{colour}]", f"{probability:.1%}", second)
    console.print(table)
    metrics = trained.metrics
    lines = [
        f"unseen combinations, top-1 of 100 names  {headline['unseen_top1']:.1%}  (chance 1%)",
        f"seen combinations, top-1 of 100 names    {headline['seen_top1']:.1%}",
        f"gap between seen and unseen              {headline['gap']:.1%}",
        f"retrieval R@10, text to image            {metrics['val/text_to_image_recall@10']:.1%}",
        f"word order, attributes / relations       {headline['word_order_attribute']:.1%} / "
        f"{headline['word_order_relation']:.1%}  (a bag of words: 50%)",
        f"training                                 {trained.seconds:.0f} s",
    ]
    console.print("\n".join(lines), highlight=False)
