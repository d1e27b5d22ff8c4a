"""`bifocal embed`: features of any source as matrices on disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.cli.arguments import (
    BatchSize,
    Data,
    Device,
    Limit,
    MaxBad,
    Model,
    Names,
    Several,
    Split,
    Threads,
)
from bifocal.cli.figures import reading
from bifocal.cli.waiting import watching
from bifocal.embed import Embedded, Job
from bifocal.embed import Names as Called
from bifocal.embed import embed as embed_source
from bifocal.errors import Interrupted
from bifocal.evaluate.opening import open_split
from bifocal.interop.load import load
from bifocal.pretrained import Told
from bifocal.world import join_world

PATIENCE = timedelta(days=30)
"""How long a process waits for those that have more to do, and for the files to be written."""


class What(StrEnum):
    """What is embedded."""

    images = "images"
    texts = "texts"
    both = "both"


class Dtype(StrEnum):
    """How numbers are stored."""

    float32 = "float32"
    float16 = "float16"


class Kind(StrEnum):
    """Which image features."""

    projected = "projected"
    penultimate = "penultimate"


class Precision(StrEnum):
    """In which the towers compute."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def embed(
    model: Model,
    source: Data,
    out: Annotated[Path, typer.Argument(help="Folder of the features: new, or to go on with.")],
    what: Annotated[What, typer.Option(help="Pictures, captions or both.")] = What.images,
    dtype: Annotated[Dtype, typer.Option(help="Of the matrices on disk.")] = Dtype.float32,
    kind: Annotated[
        Kind, typer.Option(help="Of the shared space, or before the projection, for probes.")
    ] = Kind.projected,
    precision: Annotated[
        Precision, typer.Option(help="In which the towers compute.")
    ] = Precision.float32,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="Keep hashes and thumbnails too.")
    ] = False,
    batch_size: BatchSize = 128,
    threads: Threads = 2,
    device: Device = "auto",
    limit: Limit = None,
    max_bad: MaxBad = 0.1,
    classes: Names = "",
    multi_label: Several = False,
    split: Split = "test",
) -> None:
    """Write features of pictures and captions to a folder; run it again to resume.

    Under torchrun the processes share the work. numpy.load(OUT/images.npy, mmap_mode="r") reads it.
    """
    job = Job(
        what=what.value,
        dtype=dtype.value,
        kind=kind.value,
        precision=precision.value,
        batch_size=batch_size,
        limit=limit,
        hashes=hashes,
        max_bad=max_bad,
        names=Called(model=named(model), data=source),
    )
    with join_world(device, PATIENCE) as world:
        console = Console(stderr=True, quiet=not world.leads)
        pretrained = load(model, world.device)
        how = reading(pretrained, classes, multi_label=multi_label)
        samples = open_split(source, how, split).source
        with goes_on(console, out) as told:
            found = embed_source(
                pretrained, samples, out, job, world=world, threads=threads, watch=told
            )
        if world.leads:
            Console().print(_summary(found))


def named(model: str) -> str:
    """Return how a model is found again from any folder."""
    return str(Path(model).resolve()) if Path(model).exists() else model


@contextmanager
def goes_on(console: Console, out: Path) -> Generator[Told]:
    """Show how much is embedded; stopped by the user, say that nothing is lost.

    Raises:
        Interrupted: the user stopped the work.
    """
    try:
        with watching("samples", console=console) as told:
            yield told["samples"]
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command goes on with {out}") from None


def _summary(found: Embedded) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in (str(found.folder), ""):
        table.add_column(title, justify="left" if title else "right", overflow="fold")
    files, settings = found.meta["files"], found.meta["settings"]
    for name, matrix in (("images", "image_features"), ("texts", "text_features")):
        if name in files:
            rows, width = getattr(found, matrix).shape
            table.add_row(f"{name}.npy", f"{rows:,} × {width} {settings['dtype']}")
    size = sum(path.stat().st_size for path in found.folder.iterdir() if path.is_file())
    table.add_row("on disk", f"{size / 1e6:,.1f} MB")
    for reason, count in found.skipped.items():
        table.add_row(f"skipped: {reason}", f"{count:,}")
    return table
