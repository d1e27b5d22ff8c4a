"""`bifocal data`: pairs packed into shards, looked over for faults, and summed up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bifocal import __version__
from bifocal.cli.data_tables import check_text, stats_text
from bifocal.cli.figures import write_figures
from bifocal.curate.checkup import Checkup, check
from bifocal.curate.crew import Opening
from bifocal.curate.encoding import Encoding, Format
from bifocal.curate.packing import Dedup, Packing, pack
from bifocal.curate.survey import survey
from bifocal.data.perceptual import NEAR
from bifocal.data.sources import Reading
from bifocal.errors import ConfigError, Interrupted
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.pretrained import TOKENIZER, find_model
from bifocal.train.recipe import DATA_ROOT

app = typer.Typer(no_args_is_help=True, help="Pack pairs into shards, and look them over.")

FAULTS = 3
"""Status of a strict check that found faults."""

Source = Annotated[str, typer.Argument(help="Shards, a table, a folder or scenes:…")]
TokenizerPath = Annotated[
    Path | None, typer.Option(help="A tokenizer.json or a model: counts tokens and what is cut.")
]
Classes = Annotated[
    str, typer.Option(help="JSON list of class names; else classes.json beside the shards.")
]
ImageColumn = Annotated[str, typer.Option(help="Column of a table's picture paths.")]
CaptionColumn = Annotated[str, typer.Option(help="Column of a table's captions.")]
Workers = Annotated[
    int, typer.Option(help="Processes; 0 for one a processor. The outcome is the same.", min=0)
]


@app.command("pack")
def pack_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Shards, tables, folders or scenes:…, and last the folder to write.",
            metavar="SOURCE… OUT",
        ),
    ],
    pairs: Annotated[int, typer.Option(help="Pairs of a shard, at most.")] = 10_000,
    size_of_shard: Annotated[
        float, typer.Option("--bytes", help="A shard that holds as many is closed.")
    ] = 1e9,
    size: Annotated[
        int, typer.Option(help="Shrink pictures to this shorter side; never enlarge. 0: leave.")
    ] = 0,
    format: Annotated[Format, typer.Option(help="Of the pictures.")] = "keep",
    quality: Annotated[int | None, typer.Option(help="Of JPEG and WebP; else 90.")] = None,
    shuffle: Annotated[int | None, typer.Option(help="Seed of a random order.")] = None,
    dedup: Annotated[
        Dedup, typer.Option(help="Leave out later samples of equal picture (and captions).")
    ] = "none",
    classes: Classes = "",
    image_column: ImageColumn = "",
    caption_column: CaptionColumn = "",
    workers: Workers = 0,
) -> None:
    """Pack pairs into tar shards, ready to train on.

    Interrupted in any way, the same command goes on where it stopped. The same data and options
    give the same bytes.
    """
    if len(paths) < 2:
        raise ConfigError(
            f"'{paths[0]}' alone: give one source or more, and last the folder to write"
        )
    out = Path(paths[-1])
    opening = Opening(tuple(paths[:-1]), _reading(classes, image_column, caption_column))
    packing = Packing(Encoding(size, format, quality), pairs, int(size_of_shard), shuffle, dedup)
    console = Console()
    with _bar(console, "pairs kept") as told:
        try:
            record = pack(opening, out, packing, workers=_processes(workers), told=told)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command goes on after the last shard") from None
    console.print(
        f"{record.pairs:,} pairs in {len(record.shards):,} shard(s), {record.size / 1e6:,.1f} MB, "
        f"in {out}",
        highlight=False,
        soft_wrap=True,
    )
    if record.duplicates:
        console.print(f"{record.duplicates:,} duplicates left out", highlight=False)
    if record.left_out:
        console.print(f"{record.left_out.total():,} bad samples left out:", highlight=False)
        console.print(record.describe(), highlight=False, markup=False, soft_wrap=True)


@app.command("check")
def check_command(
    source: Source,
    against: Annotated[
        list[str] | None, typer.Option(help="Other data to look for its pictures in; repeatable.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots and pictures.")] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
    tokenizer: TokenizerPath = None,
    limit: Annotated[
        int, typer.Option(help="Look at as many samples of each, evenly spread. 0: all.", min=0)
    ] = 0,
    distance: Annotated[
        int, typer.Option(help="Bits of 64 in which near duplicates may differ.", min=0, max=16)
    ] = NEAR,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 3 on a fault.")] = False,
    classes: Classes = "",
    image_column: ImageColumn = "",
    caption_column: CaptionColumn = "",
    workers: Workers = 0,
) -> None:
    """Look for damage, duplicates, and captions that describe nothing.

    The status is 0 whatever is found, and 3 for any fault with --strict; 1 means that the data
    could not be looked at.
    """
    opening = Opening((source, *(against or ())), _reading(classes, image_column, caption_column))
    console = Console()
    with _bar(console, "damaged") as told:
        found = check(
            opening,
            tokenizer=_tokenizer(tokenizer),
            limit=limit,
            distance=distance,
            workers=_processes(workers),
            told=told,
        )
    console.print(check_text(found), end="", highlight=False, markup=False, soft_wrap=True)
    if output:
        write_figures(found.figures(), output)
    if html:
        _write_page(found, html)
    if strict and not found.is_clean:
        raise typer.Exit(FAULTS)


@app.command("stats")
def stats_command(
    source: Source,
    sample: Annotated[int, typer.Option(help="Samples to read, evenly spread.", min=1)] = 500,
    tokenizer: TokenizerPath = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.")
    ] = None,
    classes: Classes = "",
    image_column: ImageColumn = "",
    caption_column: CaptionColumn = "",
) -> None:
    """Sum data up: how many, how large, how long, how dear to decode."""
    opening = Opening((source,), _reading(classes, image_column, caption_column))
    figures = survey(opening.open(), sample, _tokenizer(tokenizer)).figures()
    text = stats_text(figures)
    Console().print(text, end="", highlight=False, markup=False, soft_wrap=True)
    if output:
        write_figures({"source": source, **figures}, output)


def _write_page(found: Checkup, path: Path) -> None:
    # Drawing needs matplotlib, which takes a second to import.
    from bifocal.curate.check_page import check_page

    try:
        check_page(found, f"bifocal {__version__}").write(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _tokenizer(path: Path | None) -> Tokenizer | None:
    if path is None:
        return None
    return Tokenizer.load(find_model(path) / TOKENIZER if path.is_dir() else path)


def _reading(classes: str, image_column: str = "", caption_column: str = "") -> Reading:
    root = Path(os.environ.get(DATA_ROOT, ""))
    return Reading(
        root=root, classes=classes, image_column=image_column, caption_column=caption_column
    )


def _processes(workers: int) -> int:
    return workers or len(os.sched_getaffinity(0))


@contextmanager
def _bar(console: Console, of: str) -> Iterator[Callable[..., None]]:
    """Show how many samples were read, at which rate, and the time left."""
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, expand=True, transient=True
    ) as progress:
        task = progress.add_task("", total=None, status="")

        def told(read: int, kept: int, total: int) -> None:
            speed = progress.tasks[0].speed or 0.0
            status = f"{kept:,} {of}  {speed:,.0f}/s"
            progress.update(task, completed=read, total=total, status=status)

        yield told
