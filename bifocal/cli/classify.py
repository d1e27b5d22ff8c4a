"""`bifocal classify`: any picture, any labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bifocal.errors import ConfigError, DataError
from bifocal.inputs.prompts import PHOTO
from bifocal.interop.load import load


def classify(
    model: Annotated[
        str, typer.Argument(help="A run, a saved model of any make, or a published name.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    labels: Annotated[
        str, typer.Option(help="Class names, set apart by commas; or @FILE with one a line.")
    ],
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt with {} for the name; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(help="Labels to show a picture.", min=1)] = 5,
) -> None:
    """Name pictures with labels that the model was never trained on.

    A picture that cannot be read is reported and left out; the exit status is then 1.
    """
    console = Console()
    names = _names(labels)
    pretrained = load(model)
    classifier = pretrained.zero_shot(names, template or PHOTO)
    faults = 0
    for image in images:
        try:
            probabilities = classifier([image])[0]
        except DataError as error:
            console.print(f"[red]{escape(str(error))}[/red]", highlight=False, soft_wrap=True)
            faults += 1
            continue
        console.print(f"[bold]{escape(str(image))}[/bold]", highlight=False)
        shown = probabilities.topk(min(top, len(names)))
        width = max(len(name) for name in names)
        for value, index in zip(shown.values.tolist(), shown.indices.tolist(), strict=True):
            bar = "█" * round(value * 30)
            console.print(
                f"  {escape(names[index]):{width}} {value:7.1%} [cyan]{bar}[/cyan]", highlight=False
            )
    if faults:
        raise DataError(f"{faults} of {len(images)} pictures could not be read")


def _names(labels: str) -> list[str]:
    if labels.startswith("@"):
        try:
            found = Path(labels[1:]).read_text("utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"cannot read the labels {labels[1:]}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"cannot read the labels {labels[1:]}: it is not UTF-8") from None
    else:
        found = labels.split(",")
    names = [name.strip() for name in found if name.strip()]
    if len(names) < 2:
        raise ConfigError(
            f"--labels gives {len(names)} name(s): a choice needs two at least, as "
            "--labels 'cat,dog'"
        )
    return names
