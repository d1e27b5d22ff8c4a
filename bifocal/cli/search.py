"""`bifocal search`: a text or a picture finds the nearest of what was embedded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from bifocal.embed import Embedded
from bifocal.errors import CheckpointError, ConfigError
from bifocal.identity import identify_model, unlike
from bifocal.interop.load import load
from bifocal.pretrained import Pretrained

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def search(
    folder: Annotated[Path, typer.Argument(help="Features that `bifocal embed` wrote.")],
    query: Annotated[str, typer.Argument(help="A text, or the path of a picture.")],
    top: Annotated[int, typer.Option(help="How many to show.", min=1)] = 10,
    texts: Annotated[bool, typer.Option("--texts", help="Search captions, not pictures.")] = False,
    model: Annotated[str, typer.Option(help="The model, if it has moved since.")] = "",
) -> None:
    """Find the pictures, or captions, nearest to a text or a picture."""
    if not query.strip():
        raise ConfigError("the query is empty: give a text, or the path of a picture")
    embedded = Embedded.open(folder)
    if embedded.meta["settings"]["kind"] != "projected":
        raise ConfigError(f"{folder} holds penultimate features: search needs kind=projected")
    texts = texts or "images" not in embedded.meta["files"]
    pretrained = _model(embedded, model)
    scores, rows = embedded.nearest(_features(pretrained, query), top, texts=texts)
    Console().print(_table(embedded, scores[0], rows[0], texts))


def _model(embedded: Embedded, asked: str) -> Pretrained:
    made_by = embedded.meta["model"]
    name = asked or made_by["name"]
    if not name:
        raise ConfigError(f"{embedded.folder} does not say where its model is: give --model")
    pretrained = load(name)
    faults = unlike(made_by, asdict(identify_model(pretrained, name)), "model")
    if faults:
        raise CheckpointError(
            f"{embedded.folder} was made by another model than {name}: {'; '.join(faults[:3])}. "
            "Give the one that made it as --model"
        )
    return pretrained


def _features(pretrained: Pretrained, query: str) -> Tensor:
    if Path(query).suffix.lower() in PICTURES:
        return pretrained.encode_image([Path(query)])
    return pretrained.encode_text([query])


def _table(embedded: Embedded, scores: Tensor, rows: Tensor, texts: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cosine", justify="right")
    table.add_column("key", overflow="fold")
    found = rows.tolist()
    if texts:
        table.add_column("caption", overflow="fold")
        owners = [int(embedded.owners[row]) for row in found]
        captions = embedded.captions(found)
    else:
        owners = found
        captions = []
    for place, (score, key) in enumerate(zip(scores.tolist(), embedded.keys(owners), strict=True)):
        more = [escape(" ".join(captions[place].split())[:300])] if texts else []
        table.add_row(f"{score:.3f}", escape(key), *more)
    return table
