"""`bifocal evaluate zero-shot` and `templates`: labelled pictures by the names of their classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bifocal.cli.arguments import (
    Data,
    Details,
    Device,
    Features,
    Limit,
    Model,
    Names,
    RecordFile,
    Rules,
    Sentences,
    Several,
    Split,
    Threads,
)
from bifocal.cli.evaluation_table import show
from bifocal.cli.figures import reading, write_figures
from bifocal.cli.prompting import chosen_cache, chosen_classes, chosen_templates
from bifocal.cli.waiting import watching
from bifocal.embed import Embedded
from bifocal.errors import ConfigError
from bifocal.evaluate.classifier import Prompting
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.multi_label import MultiLabelResult, classify_multi_label
from bifocal.evaluate.opening import as_read_by, open_split
from bifocal.evaluate.paper_score import check_score
from bifocal.evaluate.protocol import paper_metric, protocol
from bifocal.evaluate.record import Record, write_record
from bifocal.evaluate.results import Origin, multi_label_record, zero_shot_record
from bifocal.evaluate.zero_shot import ZeroShotResult, classify
from bifocal.identity import identify_model
from bifocal.inputs.templates import KINDS, USUAL, template_set
from bifocal.interop.load import load
from bifocal.world import pick_device

Set = Annotated[
    str, typer.Option(help="File of templates (.json, .toml, .txt), or a set: photos, photos:80.")
]
DataSet = Annotated[str, typer.Option(help="Score as the paper does on this data set of its own.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of kept classifiers; the user's cache if not given.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Build the classifier anew.")]
PerToken = Annotated[
    bool,
    typer.Option(
        "--per-token",
        help="Of a model that predicts texts: prompts by the mean over their tokens.",
    ),
]
HtmlPage = Annotated[
    Path | None, typer.Option("--html", help="Write a page with confusion and reliability.")
]


def zero_shot(
    model: Model,
    data: Data,
    template: Sentences = None,
    templates: Set = "",
    classes: Names = "",
    rules: Rules = "plain",
    dataset: DataSet = "",
    per_token: PerToken = False,
    multi_label: Several = False,
    split: Split = "test",
    features: Features = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    limit: Limit = None,
    threads: Threads = 2,
    device: Device = "auto",
    output: RecordFile = None,
    detail: Details = None,
    page: HtmlPage = None,
) -> None:
    """Classify labelled pictures by the names of their classes."""
    chosen = protocol(rules)
    counted = paper_metric(dataset) if dataset else None
    names = chosen_classes(classes)
    stored = Embedded.open(features) if features else None
    pretrained = as_read_by(load(model, pick_device(device)), chosen.name)
    plan = reading(pretrained, multi_label=multi_label)
    opened = open_split(data, plan, split)
    if classes and not opened.source.class_names:
        opened = open_split(
            data, replace(plan, classes=reading(pretrained, classes).classes), split
        )
    if counted:
        check_score(counted, len(opened.source.class_names), multi_label=opened.multi_label)
    said = chosen_templates(template, templates, opened.templates)
    prompting = Prompting(said, names, chosen, chosen_cache(cache, no_cache), per_token)
    how = Pictures(limit, threads, stored=stored)
    kept = {"test": stored} if stored else {}
    who, what = identify_model(pretrained, model), {"test": opened.identity(limit)}
    origin = Origin.of(pretrained, who, what, stored=kept)
    with watching("pictures", "prompts") as told:
        if opened.labels:
            result = classify_multi_label(
                pretrained, opened.source, opened.labels, prompting, how, told
            )
            record = multi_label_record(result, origin, said, dataset)
        else:
            result = classify(pretrained, opened.source, prompting, how, told)
            record = zero_shot_record(result, origin, said, dataset)
    show(record)
    if output is not None:
        write_record(record, output)
    if detail is not None:
        write_figures(result.details(), detail)
    if page is not None:
        _write_page(result, record, page)


def _write_page(result: ZeroShotResult | MultiLabelResult, record: Record, path: Path) -> None:
    # Importing the report room imports matplotlib, which takes as long as a small evaluation.
    from bifocal.cli.multi_label_page import multi_label_page
    from bifocal.cli.zero_shot_page import zero_shot_page

    match result:
        case MultiLabelResult():
            made = multi_label_page(result, record)
        case ZeroShotResult():
            made = zero_shot_page(result, record)
    try:
        made.write(path)
    except OSError as error:
        raise ConfigError(f"cannot write the page {path}: {error.strerror}") from None


def templates(
    kind: Annotated[str, typer.Argument(help="A set, as photos or photos:80; all if empty.")] = "",
) -> None:
    """Print prompt templates by kind of picture, one a line."""
    console = Console(highlight=False)
    if kind:
        for template in template_set(kind):
            console.print(template, markup=False, soft_wrap=True)
        return
    for name, parts in KINDS.items():
        first = template_set(f"{name}:1")[0]
        console.print(f"{name:12}{len(parts):>6,}  {first}", markup=False, soft_wrap=True)
    console.print(f"\nNAME means the first {USUAL}, NAME:80 eighty.")
