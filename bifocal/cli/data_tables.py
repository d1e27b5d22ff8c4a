"""What `bifocal data check` and `stats` print: tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from bifocal.curate.checkup import Checkup
from bifocal.report.formats import format_compact, format_number, format_percent
from bifocal.report.tables import Column, Table, table_text

ROWS = 8
"""Kinds of damage, and repeated captions, that are listed."""
_WIDTH = 80


def check_text(found: Checkup) -> str:
    """Return the faults, then what damage there is and which captions repeat."""
    looked, samples = found.looked[0], len(found.joined.sources[0])
    share = f"all {samples:,}" if looked == samples else f"{looked:,} of {samples:,}"
    parts = [f"looked at {share} samples of {found.opening.specs[0]}\n"]
    faults = [
        {"fault": fault, "count": count, "share": count / _of(found, fault)}
        for fault, count in found.faults.items()
    ]
    columns = ["fault", Column("count", align="right"), _share("share")]
    parts.append(table_text(Table(faults, columns), _WIDTH))
    if found.damage:
        rows = [
            {"damage": reason, "where": place, "samples": count}
            for (place, reason), count in found.damage.most_common(ROWS)
        ]
        parts.append(table_text(Table(rows), _WIDTH))
    words = found.wording
    observed = [
        {"seen in captions": f"{what}: {text}", "captions": count}
        for what, rows in (
            ("script", words.scripts.most_common(4)),
            ("repeated", words.repeated(4)),
            ("phrase", words.common_phrases(4)),
        )
        for text, count in rows
    ]
    if observed:
        parts.append(table_text(Table(observed), _WIDTH))
    if found.duplicates.flat:
        parts.append(f"{found.duplicates.flat:,} pictures without texture, not compared by look\n")
    return "\n".join(parts)


def stats_text(figures: Mapping[str, Any]) -> str:
    """Return the figures of a survey."""
    head = [
        {"": "samples", "value": f"{figures['samples']:,}"},
        {"": "shards", "value": f"{figures['shards']:,}"},
        {"": "left out by the reader", "value": f"{figures['left_out']:,}"},
        {"": "classes", "value": f"{figures['classes']:,}"},
        {"": "looked at", "value": f"{figures['looked']:,}"},
        {"": "of these damaged", "value": f"{figures['damaged']:,}"},
    ]
    if figures["picture_bytes"] is not None:
        value = f"about {format_compact(figures['picture_bytes'])}B"
        head.append({"": "pictures in all", "value": value})
    cost = f"{figures['decode_milliseconds']:.2f} ms a picture, one thread"
    head.append({"": "decoding", "value": f"{cost}; {figures['decode_hours']:.3g} h in all"})
    if figures["longer_than_the_context"] is not None:
        value = f"{figures['longer_than_the_context']:,} of the captions looked at"
        head.append({"": "longer than the context", "value": value})
    shares = cast("dict[str, int]", figures["scripts"])
    if shares:
        value = ", ".join(f"{name} {count:,}" for name, count in list(shares.items())[:5])
        head.append({"": "scripts", "value": value})
    names = (
        "bytes_a_picture",
        "shorter_side",
        "longer_side",
        "captions_a_picture",
        "words_a_caption",
        "tokens_a_caption",
    )
    rows = [{"of": name.replace("_", " "), **figures[name]} for name in names if figures[name]]
    spread = [Column(name, align="right", format=format_number) for name in list(rows[0])[1:]]
    tables = (Table(head, ["", "value"]), Table(rows, ["of", *spread]))
    return "\n".join(table_text(table, _WIDTH) for table in tables)


def _of(found: Checkup, fault: str) -> int:
    """Return how many things could have the fault."""
    if fault.startswith("caption"):
        return max(found.wording.captions, 1)
    return max(int((found.duplicates.pictures.splits == 0).sum()) + found.damage.total(), 1)


def _share(key: str) -> Column:
    return Column(key, align="right", format=lambda value: format_percent(value, 2))
