"""One self-contained page: header, metrics, sections, warnings.

Knows: the page's structure and how it is written without ever leaving half a file. Must not know:
what the sections are about. The page asks nothing of the network, and its content security policy
makes the browser hold it to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bifocal.files import write_atomically
from bifocal.report.markup import Html, digest, element, fragment, readable


@dataclass(frozen=True)
class Card:
    """A headline number.

    Args:
        label: What it is.
        value: As it is to be shown.
        detail: A second line, such as "chance 1.0 %".
    """

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Args:
        title: Heading, also shown in the page's index.
        blocks: Figures, tables and galleries; a plain string is a paragraph.
        note: One sentence under the heading.
        columns: How many blocks stand side by side where there is room.
    """

    title: str
    blocks: Sequence[str]
    note: str = ""
    columns: int = 1


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: Of the page and its first heading.
        subtitle: Model, date, device.
        cards: Headline numbers.
        sections: The body, in order.
        warnings: What the reader must know before believing the numbers; shown first.
        footer: Who wrote it, and how.
    """

    title: str
    subtitle: str = ""
    cards: Sequence[Card] = ()
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()
    footer: str = "bifocal"

    def html(self) -> str:
        """Return the whole page as one HTML document."""
        package = resources.files("bifocal.report")
        style = (package / "style.css").read_text(encoding="utf-8")
        script = (package / "page.js").read_text(encoding="utf-8")
        policy = (
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest(script)}'"
        )
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", self.title),
            # Without an icon of its own the browser asks the server for one.
            element("link", rel="icon", href="data:,"),
            element("style", Html(style)),
        )
        body = element(
            "body",
            self._header(),
            element("main", self._warnings(), *self._sections()),
            element("footer", self.footer),
            element("script", Html(script)),
        )
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"

    def write(self, path: Path | str) -> Path:
        """Write the page, replacing an older one only when the new one is complete on disk.

        Args:
            path: Of the `.html` file; its folder is made if need be.

        Returns:
            The path written.

        Raises:
            OSError: The file cannot be written; an older page is then still there.
        """
        path = Path(path)
        write_atomically(path, readable(self.html()).encode("utf-8"))
        return path

    def _header(self) -> Html:
        cards = [
            element(
                "div",
                element("dt", card.label),
                element("dd", card.value),
                element("dd", card.detail, class_="detail") if card.detail else "",
                class_="card",
            )
            for card in self.cards
        ]
        links = [
            element("a", section.title, href=f"#{_anchor(i)}")
            for i, section in enumerate(self.sections)
        ]
        return element(
            "header",
            element("h1", self.title),
            element("p", self.subtitle, class_="subtitle") if self.subtitle else "",
            element("dl", *cards, class_="cards") if cards else "",
            element("nav", *links, aria_label="Sections") if len(links) > 1 else "",
        )

    def _warnings(self) -> Html:
        if not self.warnings:
            return Html("")
        count = f"{len(self.warnings)} warning" + ("s" if len(self.warnings) > 1 else "")
        items = [element("li", warning) for warning in self.warnings]
        return element("section", element("h2", count), element("ul", *items), class_="warnings")

    def _sections(self) -> list[Html]:
        return [_section(section, _anchor(i)) for i, section in enumerate(self.sections)]


def _section(section: Section, anchor: str) -> Html:
    blocks = [block if isinstance(block, Html) else element("p", block) for block in section.blocks]
    return element(
        "section",
        element("h2", section.title),
        element("p", section.note, class_="note") if section.note else "",
        element("div", fragment(*blocks), class_="blocks", style=f"--columns:{section.columns}"),
        id=anchor,
    )


def _anchor(number: int) -> str:
    # A number and not the title: titles may repeat, and may hold what an address may not.
    return f"section-{number + 1}"
