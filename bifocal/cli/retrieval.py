"""`bifocal evaluate retrieval`: captions by pictures and pictures by captions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bifocal.cli.arguments import (
    Data,
    Device,
    Features,
    Limit,
    Model,
    RecordFile,
    Rules,
    Split,
    Threads,
)
from bifocal.cli.evaluation_table import show
from bifocal.cli.figures import reading
from bifocal.cli.waiting import watching
from bifocal.embed import Embedded
from bifocal.evaluate.features import Pictures
from bifocal.evaluate.opening import as_read_by, open_split
from bifocal.evaluate.protocol import protocol
from bifocal.evaluate.record import write_record
from bifocal.evaluate.results import Origin, retrieval_record
from bifocal.evaluate.retrieval import retrieve
from bifocal.identity import identify_model
from bifocal.interop.load import load
from bifocal.world import pick_device


class Alike(StrEnum):
    """What counts as right beside a picture's own captions."""

    none = "none"
    caption = "caption"
    picture = "picture"
    both = "both"


def retrieval(
    model: Model,
    data: Data,
    rules: Rules = "plain",
    same: Annotated[
        Alike, typer.Option(help="Also count as right: equal captions, pictures of equal keys.")
    ] = Alike.none,
    split: Split = "test",
    features: Features = None,
    limit: Limit = None,
    threads: Threads = 2,
    device: Device = "auto",
    output: RecordFile = None,
) -> None:
    """Find captions by pictures and pictures by captions."""
    chosen = protocol(rules)
    stored = Embedded.open(features) if features else None
    pretrained = as_read_by(load(model, pick_device(device)), chosen.name)
    opened = open_split(data, reading(pretrained), split)
    how = Pictures(limit, threads, stored=stored)
    with watching("pictures") as told:
        result = retrieve(
            pretrained,
            opened.source,
            protocol=chosen,
            same=same.value,
            how=how,
            told=told["pictures"],
        )
    kept = {"test": stored} if stored else {}
    who, what = identify_model(pretrained, model), {"test": opened.identity(limit)}
    record = retrieval_record(result, Origin.of(pretrained, who, what, stored=kept))
    show(record)
    if output is not None:
        write_record(record, output)
