"""`bifocal evaluate explain`: why two results differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bifocal.cli.arguments import FiguresFile
from bifocal.cli.figures import write_figures
from bifocal.evaluate.explain import Difference, Gap, shorten
from bifocal.evaluate.explain import explain as measure
from bifocal.evaluate.record import read_record


def explain(
    first: Annotated[Path, typer.Argument(help="A record that `bifocal evaluate` wrote.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    output: FiguresFile = None,
) -> None:
    """Name every setting in which two results differ, and what each can move."""
    found = measure(read_record(first), read_record(second))
    console = Console(highlight=False)
    console.print(found.verdict)
    for one in found.settings:
        _show(one, console)
    # Of figures that agree there is nothing to tell, unless all do.
    apart = [gap for gap in found.gaps if gap.difference != 0]
    if found.gaps:
        console.print(_table(apart or found.gaps))
    if output is not None:
        write_figures({**asdict(found), "verdict": found.verdict}, output)


def _show(one: Difference, console: Console) -> None:
    console.print()
    console.print(Text(one.name, style="bold"))
    for letter, value, other in (("A", one.first, one.second), ("B", one.second, one.first)):
        console.print(
            Padding(Text(f"{letter}  {shorten(value, other)}"), (0, 0, 0, 2), expand=False)
        )
    console.print(Padding(Text(one.why, style="dim"), (0, 0, 0, 2), expand=False))


def _table(gaps: Sequence[Gap]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for title in ("A", "B", "A - B", "of half CI", "turned"):
        table.add_column(title, justify="right")
    for gap in gaps:
        table.add_row(
            gap.metric.replace("_", " "),
            f"{gap.first:.4g}",
            f"{gap.second:.4g}",
            f"{gap.difference:+.4g}",
            "" if gap.share is None else f"{gap.share:.2f}",
            "" if gap.turned is None else f"{gap.turned:,}",
        )
    return table
