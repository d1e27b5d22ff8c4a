"""What several verbs ask for, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(help="A run, a saved model of any make, or a published name.")
]
Data = Annotated[
    str,
    typer.Argument(
        help="Shards ('test-*.tar'), folders by class, CLIP_benchmark's folders, a table, "
        "scenes:KIND."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Read only the first so many of each.", min=1)]
Threads = Annotated[int, typer.Option(help="That read and decode.", min=1)]
BatchSize = Annotated[int, typer.Option(help="Read by a tower at once.", min=1)]
MaxBad = Annotated[float, typer.Option(help="Largest share of unreadable samples.", min=0, max=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Names = Annotated[
    str, typer.Option(help="File of class names (.json, .toml, .txt), in order of the labels.")
]
Several = Annotated[
    bool,
    typer.Option("--multi-label", help="Pictures may be of several classes: NAME.cls lists them."),
]
Split = Annotated[str, typer.Option(help="Of a folder in CLIP_benchmark's layout.")]
Rules = Annotated[
    str, typer.Option("--protocol", help="plain, paper or clip_benchmark: whose rules.")
]
Sentences = Annotated[
    list[str] | None, typer.Option(help="Prompt with {} for the name; may be repeated.")
]
Features = Annotated[
    Path | None,
    typer.Option(help="Folder of features that `bifocal embed` wrote, to spare the tower."),
]
RecordFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write the record to this file, outcomes beside it."),
]
Details = Annotated[
    Path | None,
    typer.Option("--details", help="Write what a record has no place for as JSON."),
]
FiguresFile = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
