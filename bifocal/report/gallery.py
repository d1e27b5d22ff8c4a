"""Retrievals and predictions beside their pictures.

Knows: how a query and what was found for it are laid out. Must not know: how it was found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bifocal.report.formats import format_percent
from bifocal.report.markup import Html, element, one_line
from bifocal.report.pictures import Picture, picture


@dataclass(frozen=True)
class Hit:
    """One thing found: a picture, a caption, or a picture with its caption.

    Args:
        score: Similarity to the query, best hit first.
        correct: Whether it belongs to the query.
        image: The picture found, if pictures were searched.
        text: The caption found, or that of the picture found.
    """

    score: float | int
    correct: bool
    image: Picture | None = None
    text: str = ""


@dataclass(frozen=True)
class Query:
    """What was asked, by a text or by a picture, and what was found.

    Args:
        hits: Best first.
        text: The query, if it is a text; a picture's name otherwise, or nothing.
        image: The query, if it is a picture.
        rank: Place, from 1, of the best correct answer; shown when it is not among `hits`.
    """

    hits: Sequence[Hit]
    text: str = ""
    image: Picture | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Prediction:
    """A picture and the labels found likeliest.

    Args:
        image: The picture.
        labels: Label and probability in 0…1, likeliest first.
        truth: The right label, when it is known.
    """

    image: Picture
    labels: Sequence[tuple[str, float | int]]
    truth: str | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the likeliest label is the right one; `None` when that is unknown."""
        if self.truth is None:
            return None
        return bool(self.labels) and self.labels[0][0] == self.truth


def retrievals(queries: Sequence[Query]) -> Html:
    """Return queries with their hits: pictures in a row, or captions in a list."""
    if not queries:
        return element("p", "No queries.", class_="empty")
    return element("div", *(_query(query) for query in queries), class_="queries")


def predictions(items: Sequence[Prediction]) -> Html:
    """Return pictures, each with a bar for every label and the true one marked."""
    if not items:
        return element("p", "No predictions.", class_="empty")
    return element("div", *(_prediction(item) for item in items), class_="predictions")


def _query(query: Query) -> Html:
    found = any(hit.correct for hit in query.hits)
    place = None if found or query.rank is None else f"the right one is at place {query.rank:,}"
    foot = element("p", place, class_="miss") if place else ""
    pictured = any(hit.image is not None for hit in query.hits)
    hits = element(
        "ol",
        *((_picture_hit if pictured else _text_hit)(hit) for hit in query.hits),
        class_="hits" if pictured else "captions",
        style=f"--hits:{len(query.hits)}" if pictured else None,
    )
    text = element("h3", f"“{query.text}”" if query.image is None else query.text)
    if query.image is None:
        return element("article", text, hits, foot, class_="query")
    shown = picture(query.image, query.text or "picture asked for", side=320)
    right = element("div", text if query.text else "", hits, foot)
    return element("article", shown, right, class_="query by-image")


def _picture_hit(hit: Hit) -> Html:
    assert hit.image is not None, "a row of pictures needs a picture for every hit"
    shown = picture(hit.image, one_line(hit.text, 120) or "picture found", side=240)
    score = element("span", f"{hit.score:.3f}")
    title = hit.text or None
    caption = element("figcaption", score, _mark(hit.correct))
    return element(
        "li",
        element("figure", shown, caption),
        class_="right" if hit.correct else None,
        title=title,
    )


def _text_hit(hit: Hit) -> Html:
    score = element("span", f"{hit.score:.3f}", class_="score")
    kind = "right" if hit.correct else None
    return element("li", score, element("span", hit.text), _mark(hit.correct), class_=kind)


def _prediction(item: Prediction) -> Html:
    rows = [
        _label(label, float(probability), label == item.truth) for label, probability in item.labels
    ]
    missing = item.truth is not None and all(label != item.truth for label, _ in item.labels)
    foot = element("p", "truth: ", element("b", item.truth), class_="miss") if missing else ""
    alt = f"picture of {item.truth}" if item.truth is not None else "picture to classify"
    bars = element("div", element("ul", *rows, class_="labels"), foot)
    return element("article", picture(item.image, alt), bars, class_="prediction")


def _label(label: str, probability: float, right: bool) -> Html:
    width = 100 * min(max(probability, 0.0), 1.0)
    bar = element("span", class_="bar", style=f"--share:{width:.1f}%", aria_hidden="true")
    name = element("span", label, _mark(right), class_="name")
    number = element("span", format_percent(probability), class_="score")
    return element("li", name, number, bar, class_="right" if right else None)


def _mark(correct: bool) -> Html:
    # A tick and not only a colour; read aloud it is a word.
    if not correct:
        return Html("")
    return element("span", "✓", class_="tick", role="img", aria_label="correct")
