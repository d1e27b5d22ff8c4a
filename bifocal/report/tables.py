"""Tables: HTML for the page, markdown and plain text for files and terminals.

Knows: columns, alignment, how nested settings are listed. Must not know: what the rows mean.
"""

import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat

from bifocal.report.formats import format_percent, format_value
from bifocal.report.markup import Html, element, fragment

Align = Literal["left", "right"]


@dataclass(frozen=True)
class Column:
    """One column of a `Table`.

    Args:
        key: Which entry of a row it shows.
        title: Heading; the key when empty.
        align: `right` for numbers; when `None`, `right` if every value present is a number.
        format: How a value becomes text; by default four significant digits. A percentage is
            `bifocal.report.format_percent`.
        bar: Whether the page draws a bar behind the value, which is then a fraction in 0…1 and
            is shown as a percentage unless `format` says otherwise.
    """

    key: str
    title: str = ""
    align: Align | None = None
    format: Callable[[Any], str] | None = None
    bar: bool = False

    @property
    def heading(self) -> str:
        """The title, or the key where there is none."""
        return self.title or self.key

    def text(self, row: Mapping[str, Any]) -> str:
        """Return this column's text for one row; an absent value is a dash."""
        value = row.get(self.key)
        if value is None:
            return format_value(None)
        return (self.format or (format_percent if self.bar else format_value))(value)


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Args:
        rows: One mapping a row; keys without a column are ignored.
        columns: `Column`s or plain keys; by default the keys of the rows, in order of appearance.
        caption: What the table shows, in one sentence.
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Column | str] = ()
    caption: str = ""

    def resolved(self) -> list[Column]:
        """Return the columns with every default filled in."""
        named = self.columns or list(dict.fromkeys(key for row in self.rows for key in row))
        columns = [Column(column) if isinstance(column, str) else column for column in named]
        return [
            Column(c.key, c.heading, c.align or self._alignment(c.key), c.format, c.bar)
            for c in columns
        ]

    def _alignment(self, key: str) -> Align:
        values = [row[key] for row in self.rows if row.get(key) is not None]
        numeric = [
            isinstance(value, SupportsFloat) and not isinstance(value, bool) for value in values
        ]
        return "right" if values and all(numeric) else "left"


def table_html(table: Table) -> Html:
    """Return the table as HTML; with JavaScript on, a click on a heading sorts it."""
    columns = table.resolved()
    head = [element("th", c.heading, scope="col", class_=c.align) for c in columns]
    body = []
    for row in table.rows:
        body.append(element("tr", *(_cell(column, row) for column in columns)))
    if not body:
        body = [element("tr", element("td", "No rows.", colspan=max(len(columns), 1)))]
    rendered = element(
        "table",
        element("caption", table.caption) if table.caption else "",
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    # A wide table scrolls inside its own box, so that the page itself never scrolls sideways; the
    # box takes the keyboard focus because otherwise only a pointer could scroll it.
    label = table.caption or "table"
    return element("div", rendered, class_="scroll", tabindex=0, role="region", aria_label=label)


def table_markdown(table: Table, width: int = 80) -> str:
    """Return the table as GitHub-flavoured markdown.

    Cells are padded so that the source reads as a table, unless that would make a line longer than
    `width`; nothing is ever cut.

    Args:
        table: What to show; its caption is left out, prose in the document serves better.
        width: Columns of the text file.
    """
    columns = table.resolved()
    cells = [[_markdown_cell(c.heading) for c in columns]]
    cells += [[_markdown_cell(c.text(row)) for c in columns] for row in table.rows]
    widths = [max(3, *(_width(row[i]) for row in cells)) for i in range(len(columns))]
    if sum(widths) + 3 * len(columns) + 1 > width:
        widths = [0] * len(columns)
    rules = [_rule(c, w) for c, w in zip(columns, widths, strict=True)]
    lines = [_pad(row, widths, columns) for row in cells]
    lines.insert(1, rules)
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def table_text(table: Table, width: int = 80) -> str:
    """Return the table as aligned plain text; long cells wrap, so that no line passes `width`.

    Columns shrink from the widest down, never below 8 characters: a table of very many columns is
    wider than `width` rather than unreadable.
    """
    columns = table.resolved()
    cells = [[c.heading for c in columns]]
    cells += [[" ".join(c.text(row).split()) for c in columns] for row in table.rows]
    widths = [max(1, *(_width(row[i]) for row in cells)) for i in range(len(columns))]
    while widths and sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in cells:
        wrapped = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, wrapped), default=0)):
            parts = [part[i] if i < len(part) else "" for part in wrapped]
            lines.append("  ".join(_pad(parts, widths, columns)).rstrip())
        if row is cells[0]:
            lines.append("  ".join("-" * w for w in widths))
    return "".join(line + "\n" for line in lines)


def settings_list(settings: Mapping[str, Any], *, open_groups: bool = False) -> Html:
    """Return nested settings as definition lists, each nested mapping in a fold of its own.

    Args:
        settings: Plain data: scalars, sequences and mappings, to any depth.
        open_groups: Whether the folds start open.
    """
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    groups = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    pairs = [
        element("div", element("dt", key), element("dd", _setting(value)))
        for key, value in plain.items()
    ]
    folds = [
        element(
            "details",
            element("summary", key, " ", element("small", _count(value))),
            settings_list(value, open_groups=open_groups),
            open=open_groups,
        )
        for key, value in groups.items()
    ]
    return fragment(element("dl", *pairs, class_="settings") if pairs else "", *folds)


def _setting(value: object) -> str:
    # Settings are echoed in full: rounding 1e-06 or 49,408 would make them wrong to copy.
    return format_value(value) if value is None or isinstance(value, bool) else str(value)


def _count(group: Mapping[str, Any]) -> str:
    return f"{len(group)} setting" + ("" if len(group) == 1 else "s")


def _cell(column: Column, row: Mapping[str, Any]) -> Html:
    text, value = column.text(row), row.get(column.key)
    sort_key = None
    if value is not None and column.align == "right" and isinstance(value, SupportsFloat):
        sort_key = float(value)
    if column.bar and value is not None:
        share = min(max(float(value), 0.0), 1.0)
        bar = element("span", class_="bar", style=f"--share:{100 * share:.1f}%", aria_hidden="true")
        return element("td", bar, element("span", text), class_="has-bar", data_sort=sort_key)
    return element("td", text, class_=column.align, data_sort=sort_key)


def _markdown_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<")


def _rule(column: Column, width: int) -> str:
    dashes = "-" * max(width, 3)
    return dashes[:-1] + ":" if column.align == "right" else dashes


def _pad(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> list[str]:
    padded = []
    for cell, width, column in zip(cells, widths, columns, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if column.align == "right" else cell + space)
    return padded


def _width(text: str) -> int:
    """Return how many terminal columns `text` takes: East Asian wide characters take two."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
