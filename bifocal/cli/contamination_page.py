"""The page of contamination: figures, similarities, and pairs for a person to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from bifocal import __version__
from bifocal.data.loader import read_image
from bifocal.data.perceptual import ALIKE
from bifocal.evaluate.contamination import Contamination, Neighbours, Side
from bifocal.report.formats import format_percent
from bifocal.report.markup import Html, element
from bifocal.report.page import Card, Page, Section
from bifocal.report.pictures import picture
from bifocal.report.plots import LinePlot, line_plot
from bifocal.report.series import Series
from bifocal.report.tables import Column, Table, table_html

BINS = 60
PAIRS = 18
LEVELS = (0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
"""Shares of test pictures whose nearest is less alike than the pair shown."""


def write_page(
    result: Contamination,
    found: Neighbours,
    overlap: Tensor,
    sides: Mapping[str, Side],
    threshold: float | None,
    path: Path,
) -> Path:
    """Write the page and return its path."""
    pairs = _Pairs(found, overlap, sides)
    blocks = [table_html(_figures(result)), _histogram(found, threshold)]
    sections = [
        Section("Figures", blocks, note=_note(result), columns=2),
        *_galleries(pairs, found, threshold),
    ]
    data = {name: side.features.meta["data"] for name, side in sides.items()}
    page = Page(
        title="Contamination of a test set",
        subtitle=f"{data['test']['samples']:,} test pictures among {data['train']['samples']:,} "
        "training pictures",
        cards=_cards(result),
        sections=sections,
        warnings=_warnings(sides, threshold),
        footer=f"bifocal {__version__}",
    )
    return page.write(path)


def _cards(result: Contamination) -> list[Card]:
    counts = f"{result.overlapping:,} of {result.images:,}"
    cards = [
        Card("overlap", format_percent(result.share), counts),
        Card("All", format_percent(result.all.value), result.figure.replace("_", " ")),
    ]
    if result.clean is not None:
        cards.append(Card("Clean", format_percent(result.clean.value)))
    if result.inflation is not None:
        cards.append(Card("All - Clean", f"{100 * result.inflation.value:+.2f}", "points"))
    if result.p_value is not None:
        cards.append(Card("p-value", f"{result.p_value:.3g}", "Overlap no better than Clean"))
    return cards


def _figures(result: Contamination) -> Table:
    rows = [
        {"part": name, "images": images}
        | ({} if one is None else {"figure": one.value, "low": one.low, "high": one.high})
        for name, images, one in result.parts
    ]
    shares = [Column(key, format=format_percent) for key in ("low", "high")]
    figure = Column("figure", result.figure.rpartition("_")[2], format=format_percent)
    return Table(rows, ["part", "images", figure, *shares])


def _note(result: Contamination) -> str:
    bounds = "Bounds are exact (Clopper-Pearson), at 95 %, of Overlap at 99.5 %. "
    if result.p_value is None:
        return bounds + "One part is empty: there is no comparison."
    return bounds + (
        "The p-value is the probability of so many right or more among the overlapping pictures, "
        "at the rate of the clean ones (one-tailed binomial test)."
    )


def _histogram(found: Neighbours, threshold: float | None) -> str:
    values = found.cosines.double().numpy()
    counts, edges = np.histogram(values, bins=BINS, range=(values.min(), max(values.max(), 1.0)))
    middles = (edges[1:] + edges[:-1]) / 2
    if threshold is None:
        parts = [Series("pictures", middles, counts)]
    else:
        above = middles >= threshold
        parts = [
            Series(f"below {threshold}", middles[~above], counts[~above]),
            Series("above", middles[above], counts[above]),
        ]
    return line_plot(LinePlot("Test pictures by their nearest cosine", parts, x_label="cosine"))


class _Pairs:
    """Test pictures beside the training pictures that are nearest to them."""

    def __init__(self, found: Neighbours, overlap: Tensor, sides: Mapping[str, Side]) -> None:
        self._found, self._overlap, self._sides = found, overlap, sides

    def gallery(self, rows: Sequence[int], by_looks: bool = False) -> Html:
        """Return the pairs of test rows, the training picture to the right."""
        pairs = [self._pair(row, by_looks) for row in rows]
        narrow = "grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr))"
        return element("div", *pairs, class_="queries", style=narrow)

    def _pair(self, row: int, by_looks: bool) -> Html:
        other = int((self._found.twins if by_looks else self._found.rows)[row])
        (key,) = self._sides["test"].features.keys([row])
        (seen,) = self._sides["train"].features.keys([other])
        alike = f"{self._found.cosines[row]:.3f}"
        if by_looks:
            likeness = float(self._found.resemblance[row])
            alike = f"{int(self._found.bits[row])} bits, {likeness:.3f}"
        copied = bool(self._overlap[row])
        tick = element("span", "✓", class_="tick", role="img", aria_label="copy") if copied else ""
        shown = [
            self._figure("test", row, f"test {key}", element("figcaption", "test")),
            self._figure("train", other, f"training {seen}", element("figcaption", alike, tick)),
        ]
        pair = element("ol", *shown, class_="hits", style="--hits:2")
        return element("article", pair, class_="query")

    def _figure(self, side: str, row: int, title: str, caption: Html) -> Html:
        image = picture(self._picture(side, row), title, side=240)
        return element("li", element("figure", image, caption), title=title)

    def _picture(self, side: str, row: int) -> np.ndarray:
        one = self._sides[side]
        sample = one.source.read(int(one.features.indices[row]))
        return read_image(sample).permute(1, 2, 0).numpy()


def _galleries(pairs: _Pairs, found: Neighbours, threshold: float | None) -> list[Section]:
    sections: list[Section] = []
    twins = [row for row in found.bits.argsort().tolist() if int(found.twins[row]) >= 0]
    if twins:
        note = (
            f"{len(twins):,} pairs, the test picture to the left; how many bits of their hashes "
            f"differ, and how far their thumbnails correlate ({ALIKE} at least)."
        )
        shown = pairs.gallery(twins[:PAIRS], by_looks=True)
        sections.append(Section("Copies by looks", [shown], note=note))
    order = found.cosines.argsort(descending=True).tolist()
    note = "Left the test picture. The figure is the cosine; a tick marks what counts as a copy."
    sections.append(Section("Most alike to the model", [pairs.gallery(order[:PAIRS])], note=note))
    if threshold is not None:
        above = int((found.cosines >= threshold).sum())
        near = order[max(0, above - PAIRS // 2) : above + PAIRS // 2]
        sections.append(Section(f"Around the threshold {threshold}", [pairs.gallery(near)]))
    else:
        places = [round((1 - level) * (len(order) - 1)) for level in LEVELS]
        spread = [order[place] for place in dict.fromkeys(places)]
        note = "From the most alike downwards: a threshold belongs where copies end."
        sections.append(Section("To set a threshold by", [pairs.gallery(spread)], note=note))
    return sections


def _warnings(sides: Mapping[str, Side], threshold: float | None) -> list[str]:
    found = [
        f"{count:,} {name} pictures left out: {reason}"
        for name, side in sides.items()
        for reason, count in side.features.skipped.items()
    ]
    if threshold is None:
        found.append(
            "Copies are found by looks alone, which misses crops and mirrored pictures: "
            "look at the pairs and set --threshold"
        )
    return found
