"""`bifocal evaluate`: measures a saved model on labelled or captioned pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.data.sources import Reading, open_source
from bifocal.errors import ConfigError
from bifocal.evaluate.retrieval import retrieval as measure_retrieval
from bifocal.evaluate.zero_shot import zero_shot as measure_zero_shot
from bifocal.inputs.prompts import PHOTO
from bifocal.interop.load import load
from bifocal.pretrained import Pretrained
from bifocal.train.config import DATA_ROOT

app = typer.Typer(no_args_is_help=True, help="Measure a model: zero-shot, retrieval.")

Model = Annotated[
    str, typer.Argument(help="A run, a saved model of any make, or a published name.")
]
Data = Annotated[str, typer.Argument(help="Shards ('test-*.tar'), a table, a folder, scenes:KIND.")]
Output = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
Limit = Annotated[int | None, typer.Option(help="Read only so many pictures.", min=1)]


@app.command("zero-shot")
def zero_shot(
    model: Model,
    data: Data,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt with {} for the name; may be repeated.")
    ] = None,
    classes: Annotated[str, typer.Option(help="JSON list of class names.")] = "",
    limit: Limit = None,
    output: Output = None,
) -> None:
    """Classify labelled pictures by the names of their classes."""
    pretrained = load(model)
    source = open_source(data, _reading(pretrained, classes))
    result = measure_zero_shot(pretrained, source, template or PHOTO, limit=limit)
    _show(result.metrics() | {"skipped": float(result.skipped)}, output)


@app.command("retrieval")
def retrieval(model: Model, data: Data, limit: Limit = None, output: Output = None) -> None:
    """Find captions by pictures and pictures by captions."""
    pretrained = load(model)
    source = open_source(data, _reading(pretrained))
    result = measure_retrieval(pretrained, source, limit=limit)
    _show(result.metrics() | {"skipped": float(result.skipped)}, output)


def _reading(pretrained: Pretrained, classes: str = "") -> Reading:
    return Reading(
        root=Path(os.environ.get(DATA_ROOT, "")),
        classes=classes,
        image_size=pretrained.preprocess.image_size,
    )


def _show(metrics: Mapping[str, float], output: Path | None) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        counted = name in ("images", "texts", "skipped") or name.endswith("rank")
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if counted else f"{value:.2%}")
    Console().print(table)
    if output is not None:
        try:
            output.write_text(json.dumps(dict(metrics), indent=2) + "\n", "utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {output}: {error.strerror}") from None
