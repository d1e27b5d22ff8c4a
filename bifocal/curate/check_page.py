"""A checkup as one HTML page: what was found, with examples to look at.

Knows how findings are shown; finds nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from bifocal.curate.checkup import SHOWN, Checkup
from bifocal.curate.duplicates import KINDS, Kind, Twins
from bifocal.curate.histogram import histogram
from bifocal.curate.wording import EXAMPLES
from bifocal.data.loader import read_image
from bifocal.data.perceptual import ALIKE
from bifocal.errors import DataError
from bifocal.report.markup import Html, element, one_line
from bifocal.report.page import Card, Page, Section
from bifocal.report.pictures import picture
from bifocal.report.tables import Column, Table, table_html

PAIRS = 6
"""Duplicates of a kind that are shown."""
EDGES = 4
"""Pictures at either end of a scale that are shown."""


def check_page(found: Checkup, footer: str) -> Page:
    """Return the page of a checkup.

    Args:
        found: what to show; its pictures are read again.
        footer: who wrote it.
    """
    damaged = [
        {"what": reason, "where": place, "samples": count}
        for (place, reason), count in found.damage.most_common(SHOWN)
    ]
    faults = [{"fault": fault, "count": count} for fault, count in found.faults.items()]
    sections = [
        Section("Findings", [table_html(Table(faults))], note=_explained(found)),
        *_duplicates(found),
        *_captions(found),
        *_pictures(found),
    ]
    if damaged:
        table = table_html(Table(damaged, caption="Most frequent first"))
        sections.insert(1, Section("Damage", [table], note="None of these can be trained on."))
    looked, samples = found.looked[0], len(found.joined.sources[0])
    share = "all" if looked == samples else f"{looked:,} of"
    return Page(
        title=f"Check of {found.opening.specs[0]}",
        subtitle=f"{share} {samples:,} samples, {datetime.now():%d %B %Y %H:%M}",
        cards=_cards(found),
        sections=sections,
        footer=footer,
    )


def _cards(found: Checkup) -> list[Card]:
    words, faults = found.wording, found.faults
    mine = int((found.duplicates.pictures.splits == 0).sum())
    within = sum(found.duplicates.within(0).values())
    cards = [
        Card("samples read", f"{mine:,}", f"{found.damage.total():,} damaged or left out"),
        Card("captions", f"{words.captions:,}", f"{words.captions / max(mine, 1):.3g} a picture"),
        Card("repeated pictures", f"{within:,}", f"{within / max(mine, 1):.2%} of all"),
    ]
    across = sum(count for fault, count in faults.items() if fault.startswith("also in "))
    if len(found.opening.specs) > 1:
        cards.append(Card("shared with other data", f"{across:,}", f"{across / max(mine, 1):.2%}"))
    return cards


def _explained(found: Checkup) -> str:
    compared = ", ".join(found.opening.specs[1:])
    against = f" Compared with {compared}." if compared else ""
    flat = found.duplicates.flat
    left = f" {flat:,} pictures without texture are not compared by look." if flat else ""
    return (
        f"Near duplicates differ in at most {found.distance} of the 64 bits of a perceptual hash "
        f"and correlate to {ALIKE} as thumbnails; mirrored pictures and parts of pictures are not "
        f"found.{left}{against}"
    )


def _duplicates(found: Checkup) -> list[Section]:
    chosen: dict[tuple[bool, Kind], list[Twins]] = {}
    for twins in found.duplicates.twins():
        if found.duplicates.pictures.splits[[twins.first, twins.second]].all():
            continue  # both are of the data that this one was compared with
        kept = chosen.setdefault((not twins.across, twins.kind), [])
        if len(kept) < PAIRS:
            kept.append(twins)
    sections = []
    for is_within, kind in itertools.product((False, True), KINDS):
        kept = chosen.get((is_within, kind))
        if not kept:
            continue
        where = "in this source" if is_within else "in this source and another"
        title = {"same file": "Same file", "same pixels": "Same pixels", "near": "Near duplicates"}
        blocks = [element("div", *(_pair(found, twins) for twins in kept), class_="queries")]
        sections.append(Section(f"{title[kind]} {where}", blocks))
    return sections


def _pair(found: Checkup, twins: Twins) -> Html:
    sides = []
    for n in (twins.first, twins.second):
        pictures = found.duplicates.pictures
        height, width = pictures.shapes[n].tolist()
        position = int(pictures.positions[n])
        label = f"{found.joined.place(position)} · {width}×{height}"
        shown = _example(found, position, label, f"{found.place(n)}: {pictures.keys[n]}")
        sides.append(element("li", shown))
    bits = f"{twins.distance} of 64 bits differ" if twins.kind == "near" else twins.kind
    captions = [_first_caption(found, n) for n in (twins.first, twins.second)]
    texts = element("ul", *(element("li", text) for text in captions if text), class_="captions")
    rows = element("ol", *sides, class_="hits", style="--hits:2")
    return element("article", element("p", bits, class_="miss"), rows, texts, class_="query")


def _first_caption(found: Checkup, number: int) -> str:
    try:
        captions = found.joined.captions(int(found.duplicates.pictures.positions[number]))
    except DataError:
        return ""
    return one_line(captions[0], 120) if captions else ""


def _example(found: Checkup, position: int, label: str, key: str) -> Html:
    try:
        image = read_image(found.joined.read(position)).permute(1, 2, 0).numpy()
    except DataError as error:
        return element("p", str(error), class_="empty")
    shown = picture(image, one_line(label, 120), side=320)
    return element("figure", shown, element("figcaption", label), title=one_line(key, 200))


def _captions(found: Checkup) -> list[Section]:
    words = found.wording
    if not words.captions:
        return []
    plots = [
        histogram("Words of a caption", _spread(words.words), "words"),
        histogram("Characters of a caption", _spread(words.characters), "chars"),
    ]
    if words.tokenizer is not None:
        context = words.tokenizer.context_length
        note = (
            f"{words.cut:,} captions ({words.cut / words.captions:.2%}) are longer than {context}"
        )
        plots.append(histogram("Tokens of a caption", _spread(words.tokens), "tokens", note))
    tables = [
        _shares(
            "Script of most letters; scripts, not languages", words.scripts.most_common(12), found
        ),
        _shares("Captions that several samples share", words.repeated(12), found),
        _shares("Phrases of four words in most captions", words.common_phrases(12), found),
    ]
    sections = [Section("Captions", plots, columns=2), Section("Repetitions", tables)]
    flawed = [_flaw(found, flaw, kept) for flaw, kept in words.examples.items()]
    if flawed:
        sections.append(Section("Captions to look at", flawed))
    return sections


def _shares(title: str, rows: Sequence[tuple[str, int]], found: Checkup) -> Html:
    total = max(found.wording.captions, 1)
    table = [
        {"text": one_line(text, 90), "captions": count, "share": count / total}
        for text, count in rows
    ]
    columns = ["text", "captions", Column("share", bar=True)]
    return table_html(Table(table, columns, title))


def _flaw(found: Checkup, flaw: str, kept: Sequence[tuple[int, str]]) -> Html:
    items = []
    for position, caption in kept:
        place = found.joined.place(position)
        shown = _example(found, position, place, caption)
        text = element("p", one_line(caption, 160))
        items.append(element("li", shown, text))
    total = found.wording.flaws.get(flaw, found.wording.cut)
    rows = element("ol", *items, class_="hits", style=f"--hits:{EXAMPLES}")
    return element("article", element("h3", f"{flaw}: {total:,}"), rows, class_="query")


def _pictures(found: Checkup) -> list[Section]:
    pictures = found.duplicates.pictures
    mine = np.flatnonzero(pictures.splits == 0)
    heights, widths = pictures.shapes[mine].T
    ratio = widths / heights
    plots = [
        histogram("Shorter side", np.minimum(heights, widths), "pixels"),
        histogram("Width over height", ratio, "ratio"),
    ]
    if pictures.sizes[mine].any():
        plots.append(histogram("Size of a file", pictures.sizes[mine] / 1000, "kB"))
    short = np.argsort(np.minimum(heights, widths), kind="stable")
    shape = np.argsort(ratio, kind="stable")
    rows = [
        _row(found, "Smallest", mine[short[:EDGES]]),
        _row(found, "Largest", mine[short[::-1][:EDGES]]),
        _row(found, "Narrowest", mine[shape[:EDGES]]),
        _row(found, "Widest", mine[shape[::-1][:EDGES]]),
    ]
    gallery = element("div", *rows, class_="queries")
    return [Section("Pictures", plots, columns=2), Section("Extremes", [gallery])]


def _row(found: Checkup, title: str, numbers: np.ndarray) -> Html:
    pictures = found.duplicates.pictures
    items = []
    for n in numbers.tolist():
        height, width = pictures.shapes[n].tolist()
        label = f"{width}×{height}"
        shown = _example(found, int(pictures.positions[n]), label, pictures.keys[n])
        items.append(element("li", shown))
    row = element("ol", *items, class_="hits", style=f"--hits:{EDGES}")
    return element("article", element("h3", title), row, class_="query")


def _spread(counts: Counter[int]) -> np.ndarray:
    return np.repeat(list(counts), list(counts.values()))
