"""The page is complete in itself, harmless whatever it is given, and written whole or not."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bifocal.report import (
    Card,
    HeatMap,
    Hit,
    LinePlot,
    Page,
    Prediction,
    Query,
    Section,
    Series,
    Table,
    confusion_matrix,
    heat_map,
    line_plot,
    predictions,
    retrievals,
    settings_list,
    table_html,
)
from bifocal.report.markup import Html, element

VOID = {"meta", "link", "img", "br", "col"}
HOSTILE = "<script>alert('x')</script>\"&' onerror=\"alert(1)\" $\\frac\x00\ud800 --> #000001 日本"


class Document(HTMLParser):
    """Collects what a browser would load, run and show; fails on unbalanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self.identifiers: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.links += [value for name, value in attrs if name.endswith(("href", "src", "action"))]
        self.identifiers += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def image(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def full_page(text: str) -> Page:
    """A page on which `text` stands wherever a text can stand."""
    series = Series(text, [1, 2, 3], [0.1, float("nan"), 0.3], best="max", chance=0.1)
    other = Series(text + "2", [1, 2, 3], [0.1, 0.2, 0.3])
    plot = LinePlot(text, [series, other], unit=text, x_label=text)
    matrix = HeatMap(text, np.eye(3), text, text, [text] * 3, [text] * 3, note=text)
    pictured = HeatMap(text, np.eye(2), thumbnails=[image(), image(seed=1)])
    by_text = Query([Hit(0.3, True, image(), text), Hit(0.2, False, image(), text)], text=text)
    by_image = Query([Hit(0.3, False, text=text)], text=text, image=image(), rank=7)
    prediction = Prediction(image(), [(text, 0.7), ("b", 0.3)], truth=text)
    blocks = [
        line_plot(plot),
        heat_map(matrix),
        heat_map(pictured),
        confusion_matrix(np.ones((2, 2)), [text, "b"]),
        retrievals([by_text, by_image]),
        predictions([prediction, Prediction(image(), [("a", 1.0)], truth=text)]),
        table_html(Table([{text: text, "n": 1}], caption=text)),
        settings_list({text: {text: text}, "plain": [text]}),
        text,
    ]
    sections = [Section(text, blocks, note=text), Section(text, [])]
    return Page(text, text, [Card(text, text, text)], sections, [text], text)


@pytest.mark.behaviour
def test_page_loads_nothing_from_outside():
    document = Document(full_page("plain").html())
    inside = [link for link in document.links if link.startswith(("data:", "#"))]
    assert document.links == inside
    assert sum(link.startswith("data:image/jpeg") for link in inside) == 5
    assert "data:image/png" in " ".join(inside)
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", document.text)


@pytest.mark.behaviour
def test_links_within_the_page_have_targets_and_identifiers_are_unique():
    document = Document(full_page("plain").html())
    assert len(document.identifiers) == len(set(document.identifiers))
    targets = [link[1:] for link in document.links if link.startswith("#")]
    assert "section-2" in targets
    assert set(targets) <= set(document.identifiers)
    clips = [re.findall(r"url\(#([^)]+)\)", value or "") for _, value in document.attributes]
    assert {clip for found in clips for clip in found} <= set(document.identifiers)


@pytest.mark.behaviour
def test_hostile_text_stays_text():
    plain, hostile = full_page("plain"), full_page(HOSTILE)
    written = hostile.html()
    document = Document(written)
    # The same elements as for harmless text: nothing that was typed has become markup.
    assert document.tags.count("script") == Document(plain.html()).tags.count("script") == 1
    assert document.tags.count("b") == Document(plain.html()).tags.count("b")
    assert not [name for name, _ in document.attributes if name.startswith("on")]
    assert "<script>alert" not in written
    assert document.text.count("<script>alert('x')</script>") > 10
    assert "\x00" not in written
    # What looks like one of the theme's stand-in colours is left alone inside a text.
    assert "--> #000001" in document.text
    written.encode("utf-8")


@pytest.mark.behaviour
def test_security_policy_allows_exactly_the_script_that_is_there():
    import base64
    import hashlib

    written = full_page("plain").html()
    script = re.findall(r"<script>(.*?)</script>", written, flags=re.DOTALL)
    assert len(script) == 1
    hashed = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{hashed}&#x27;" in written
    assert "default-src &#x27;none&#x27;" in written


@pytest.mark.behaviour
def test_page_can_be_read_aloud():
    document = Document(full_page("plain").html())
    attributes = document.attributes
    assert ("lang", "en") in attributes
    images = document.tags.count("img")
    assert sum(name == "alt" and bool(value) for name, value in attributes) == images > 0
    labels = [value for name, value in attributes if name == "aria-label" and value]
    # Top-level drawings: one label each.
    assert document.tags.count("svg") == 4
    assert len(labels) >= 4
    assert ("scope", "col") in attributes
    assert document.tags.count("figcaption") >= 4


@pytest.mark.property
def test_the_same_data_give_the_same_page():
    assert full_page("plain").html() == full_page("plain").html()


@pytest.mark.behaviour
def test_page_without_anything_is_still_a_page():
    document = Document(Page("empty").html())
    assert document.tags.count("h1") == 1
    assert "section" not in document.tags
    assert "nav" not in document.tags


@pytest.mark.behaviour
def test_write_replaces_whole_pages_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "new folder" / "report.html"
    assert Page("first").write(path) == path
    old = path.read_text(encoding="utf-8")
    assert old == Page("first").html()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bifocal.files.os.fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            Page("second").write(path)
    assert path.read_text(encoding="utf-8") == old
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    # A reader who holds the old page open keeps all of it: it is replaced, never overwritten.
    held = tmp_path / "held.html"
    held.hardlink_to(path)
    Page("second").write(path)
    assert held.read_text(encoding="utf-8") == old
    assert "second" in path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.behaviour
def test_a_page_that_cannot_be_rendered_leaves_the_old_one(tmp_path: Path):
    path = Page("first").write(tmp_path / "report.html")
    old = path.read_bytes()

    class Unprintable(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("cannot be shown")

    with pytest.raises(RuntimeError, match="cannot be shown"):
        Page("second", footer=Unprintable()).write(path)
    assert path.read_bytes() == old


@pytest.mark.golden
def test_element_markup():
    # Origin: written by hand after the HTML standard.
    assert element("p", "a < b", class_="x") == '<p class="x">a &lt; b</p>'
    assert element("img", alt='"', hidden=True, title=None) == '<img alt="&quot;" hidden>'
    assert element("b", Html("<i>") + "<u>") == "<b>&lt;i&gt;&lt;u&gt;</b>"
