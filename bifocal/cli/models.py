"""`bifocal models`: the architectures that have names."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from bifocal.model import zoo


def models() -> None:
    """List the named architectures with their parameters and GFLOPs."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="GFLOPs: one forward pass of one pair at full context, 2 a multiply-add.",
    )
    table.add_column("model", no_wrap=True)
    for title in ("image", "embed", "context", "visual", "total", "GFLOPs"):
        table.add_column(title, justify="right")
    for name in zoo.names():
        config, size = zoo.config(name), zoo.measure(zoo.config(name))
        table.add_row(
            name,
            str(config.vision.image_size),
            str(config.embed_dim),
            str(config.text.context_length),
            f"{size.visual_parameters:,}",
            f"{size.total_parameters:,}",
            f"{size.gflops:,.2f}",
        )
        if name == list(zoo.PUBLISHED)[-1]:
            table.add_section()
    Console().print(table)
