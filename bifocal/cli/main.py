"""The command `bifocal`: verbs, and how errors reach a person."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console

from bifocal import __version__
from bifocal.errors import BifocalError, Interrupted

VERBS = {
    "demo": "Train on built-in scenes, then name combinations that training never showed.",
    "train": "Train both towers on image-text pairs; run it again to resume.",
    "evaluate": "Measure models, and compare what was measured.",
    "classify": "Name pictures with labels that the model was never trained on.",
    "embed": "Write features of pictures and captions to a folder; run it again to resume.",
    "search": "Find the pictures, or captions, nearest to a text or a picture.",
    "data": "Pack pairs into shards, and look them over.",
    "convert": "Write a model as another library reads it, and say how far the result differs.",
    "tokenizer": "Learn a vocabulary, or look into one.",
    "models": "List the named architectures with their parameters and GFLOPs.",
    "plan": "Count the parameters, FLOPs, memory and days of a training run.",
    "tune": "Search hyperparameters; run it again to resume, twice at once to share the work.",
}
"""What each verb does. It is imported when it is asked for: help needs no torch."""


def build_app(asked: str | None) -> typer.Typer:
    """Return the program with the verb that is asked for whole, and a line of each other."""
    app = typer.Typer(
        name="bifocal",
        help="CLIP as a complete system: train, evaluate and use image and text towers.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options)
    for name, line in VERBS.items():
        if name != asked:
            app.command(name, help=line)(lambda: None)
            continue
        module = import_module(f"bifocal.cli.{name}")
        if isinstance(getattr(module, "app", None), typer.Typer):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _show_version(asked: bool) -> bool:
    if asked:
        print(__version__)
        raise typer.Exit
    return asked


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
    ),
]


def _options(version: Version = False) -> None:
    """Take what comes before a verb."""


def run() -> None:
    """Run the command line; a user's mistake ends with one message and status 1."""
    console = Console(stderr=True)
    try:
        try:
            build_app(next((one for one in sys.argv[1:] if one[:1] != "-"), None))()
        except Interrupted as stop:
            _say(console, stop)
            sys.exit(130)
        except BifocalError as error:
            console.print("[red]error:[/red]", end=" ")
            _say(console, error)
            sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:  # while a message is printed too
        if not _is_interrupt(error):
            raise
        console.print("stopped")
        sys.exit(130)


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is an interrupt, or comes of one that a library has wrapped."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _say(console: Console, error: BifocalError) -> None:
    """Print a message whose paths stay whole, to be copied."""
    console.print(str(error), highlight=False, markup=False, overflow="ignore", crop=False)
