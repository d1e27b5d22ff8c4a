"""The table that `bifocal plan` prints: a line a part, what it amounts to, what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

from bifocal.report.formats import format_number
from bifocal.train.footprint import HEADROOM

GIGA, TERA = 1e9, 1e12
Row = tuple[str, str, str]


def plan_table(figures: Mapping[str, Any]) -> Table:
    """Return the figures of a plan as one table of at most 80 columns."""
    setup = figures["setup"]
    towers = setup["towers"]
    checkpointing = ", checkpointing" if towers["gradient_checkpointing"] else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title=(
            f"{figures['model']}: {setup['batch_size']:,} pairs a step on {setup['devices']:,} "
            f"device{'s' * (setup['devices'] > 1)}\n"
            f"{towers['precision']}, statistics {setup['statistics']}, {towers['length']} tokens"
            f"{checkpointing}"
        ),
        title_style="",
        width=80,
    )
    table.add_column("", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("what it is", ratio=1)
    for section in (_parameters, _flops, _memory, _time):
        for row in section(figures):
            table.add_row(*row)
        table.add_section()
    return table


def total_line(time: Mapping[str, Any]) -> str:
    """Return a line on the time of all stages of a recipe."""
    if time["pairs"] is None:
        return "all stages: give --pairs to know the time"
    if time["days"] is None:
        return "all stages: give --tflops, or --measure, to know the time"
    return f"all stages: {_duration(time['days'])} for {time['pairs']:,.0f} pairs"


def _parameters(figures: Mapping[str, Any]) -> Iterator[Row]:
    counts = figures["parameters"]
    yield "parameters", f"{counts['image'] + counts['text']:,}", "both towers"
    yield "  image tower", f"{counts['image']:,}", ""
    yield "  text tower", f"{counts['text']:,}", "with the temperature"


def _flops(figures: Mapping[str, Any]) -> Iterator[Row]:
    parts = figures["flops"]
    yield "GFLOPs a pair", _giga(parts["total"]), "2 a multiply-add"
    stored = figures["setup"]["towers"]["stored_images"]
    yield "  image forward", _giga(parts["image"]), "features are stored" if stored else ""
    yield "  text forward", _giga(parts["text"]), ""
    yield "  backward", _giga(parts["backward"]), "twice the forward passes"
    if parts["cached"]:
        chunks = figures["setup"]["chunks"]
        yield "  features first", _giga(parts["cached"]), f"once more, for {chunks:,} chunks"
    if parts["recomputed"]:
        yield "  checkpointing", _giga(parts["recomputed"]), "the blocks once more, but their ends"
    yield "  loss", _giga(parts["loss"]), "similarities and their gradients"


def _memory(figures: Mapping[str, Any]) -> Iterator[Row]:
    parts, setup = figures["memory"], figures["setup"]
    chunk = min(setup["chunk_size"] or setup["local"], setup["local"])
    whole = "a whole matrix" if not setup["tile"] else f"tiles of {setup['tile']:,}"
    yield "GB a device", _giga(parts["peak"]), "at the worst moment of a step"
    yield "  weights", _giga(parts["weights"]), ""
    yield "  gradients", _giga(parts["gradients"]), ""
    yield "  statistics", _giga(parts["statistics"]), "AdamW's two averages"
    images = "stored features" if setup["towers"]["stored_images"] else "pictures in 8 bits"
    yield "  batch", _giga(parts["batch"]), f"{setup['local']:,} pairs: {images}"
    yield "  activations", _giga(parts["activations"]), f"of {chunk:,} pairs"
    yield "  working", _giga(parts["working"]), "operators' results, for a moment"
    yield "  features", _giga(parts["features"]), "of all pairs, and their gradients"
    plain = f"; the plain loss: {_giga(parts['plain_loss'])}" if setup["tile"] else ""
    yield "  loss", _giga(parts["loss"]), whole + plain
    yield "  reading", _giga(parts["reading"]), "at once, as a chunk is differentiated"
    yield "  comparing", _giga(parts["comparing"]), "at once, as the loss is computed"
    if parts["device"] is not None:
        fits = parts["largest_chunk"]
        yield (
            "largest chunk",
            "none" if fits is None else f"{fits:,}",
            f"that fits {_giga(parts['device'])} GB, {HEADROOM:.0%} left free",
        )


def _time(figures: Mapping[str, Any]) -> Iterator[Row]:
    time = figures["time"]
    if time["pairs_per_second"] is None:
        yield "time", "?", "give --tflops, or --measure"
        return
    achieved = time["flops_per_second"] / TERA
    yield (
        "pairs a second",
        f"{time['pairs_per_second']:,.1f}",
        f"at {achieved:.3g} TFLOP/s a device",
    )
    if time["days"] is None:
        yield "time", "?", "give --pairs"
        return
    yield "time", _duration(time["days"]), f"for {time['pairs']:,.0f} pairs"


def _duration(days: float) -> str:
    """Return a time in the unit in which it is at least two, down to minutes."""
    for unit, many in (("days", 1), ("hours", 24)):
        if days * many >= 2:
            return f"{format_number(days * many)} {unit}"
    return f"{format_number(days * 24 * 60)} minutes"


def _giga(amount: float | int) -> str:
    return f"{amount / GIGA:,.3f}"
