"""`bifocal convert`: a model in another library's format, proved by reading it back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bifocal.interop import convert as conversion
from bifocal.interop.load import read_architecture
from bifocal.interop.source import Hints


class Activation(StrEnum):
    """The activations, as the command line offers them."""

    QUICK_GELU = "quick_gelu"
    GELU = "gelu"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or file of bifocal, OpenAI, open_clip or Hugging Face; a published "
            "name; owner/name on the hub."
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(help="A new folder; for openai a new file, .pt or .safetensors."),
    ],
    to: Annotated[conversion.Target, typer.Option(help="The format to write.")],
    activation: Annotated[
        Activation | None,
        typer.Option(help="Of a bare state dict, which cannot say it."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="For weights that do not say theirs: a name that `bifocal models` lists, or a "
            "JSON configuration of open_clip or Hugging Face."
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            help="bpe_simple_vocab_16e6.txt.gz or tokenizer.json, if the source has none."
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
) -> None:
    """Write a model as another library reads it, and say how far the result differs."""
    hints = Hints(
        activation=activation.value if activation else None,
        architecture=read_architecture(architecture),
        vocabulary=vocabulary,
        offline=offline,
    )
    found = conversion.convert(source, destination, to, hints)
    console = Console()
    console.print(f"{destination}: read back and compared with {source}", highlight=False)
    for name, gap in (
        ("weights", found.weights),
        ("image features", found.image_features),
        ("text features", found.text_features),
        ("logits", found.logits),
    ):
        console.print(f"  {name:<15} largest difference {gap:.1e}", highlight=False)
