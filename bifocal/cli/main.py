"""The command `bifocal`: verbs, and how errors reach a person."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from bifocal.cli import (
    classify,
    convert,
    data,
    demo,
    embed,
    evaluate,
    models,
    plan,
    search,
    tokenizer,
    train,
    tune,
)
from bifocal.errors import BifocalError, Interrupted

app = typer.Typer(
    name="bifocal",
    help="CLIP as a complete system: train, evaluate and use image and text towers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.add_typer(evaluate.app, name="evaluate")
app.command("classify")(classify.classify)
app.command("embed")(embed.embed)
app.command("search")(search.search)
app.add_typer(data.app, name="data")
app.command("convert")(convert.convert)
app.add_typer(tokenizer.app, name="tokenizer")
app.command("models")(models.models)
app.command("plan")(plan.plan)
app.command("tune")(tune.tune)


def run() -> None:
    """Run the command line; a user's mistake ends with one message and status 1."""
    console = Console(stderr=True)
    try:
        try:
            app()
        except Interrupted as stop:
            _say(console, stop)
            sys.exit(130)
        except BifocalError as error:
            console.print("[red]error:[/red]", end=" ")
            _say(console, error)
            sys.exit(1)
    except KeyboardInterrupt:  # while a message is printed too
        console.print("stopped")
        sys.exit(130)


def _say(console: Console, error: BifocalError) -> None:
    """Print a message whose paths stay whole, to be copied."""
    console.print(str(error), highlight=False, markup=False, overflow="ignore", crop=False)
