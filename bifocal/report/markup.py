"""Safe HTML from plain data.

Knows: how text becomes markup. A plain `str` is always escaped; only `Html` passes through, so
forgetting to escape is impossible rather than unlikely. Must not know: what a report contains.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_VOID = frozenset({"br", "col", "img", "link", "meta"})


class Html(str):
    """Markup that is safe to place in a page.

    Adding a `str` to it, or formatting it into one, gives a plain `str` again, which is escaped
    when it is used: mistakes show as visible tags, never as injected ones.
    """

    __slots__ = ()


def readable(text: object) -> str:
    """Return `text` as a string that any encoder and any HTML parser accepts.

    Args:
        text: Anything with a `str` form; it may hold control characters or lone surrogates (from
            undecodable file names), each of which becomes U+FFFD.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def one_line(text: object, limit: int) -> str:
    """Return `text` on one line of at most `limit` characters, an ellipsis marking a cut."""
    line = " ".join(readable(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def escaped(text: object) -> Html:
    """Return `text` escaped for element content and quoted attributes; `Html` is left alone."""
    return text if isinstance(text, Html) else Html(html.escape(readable(text)))


def fragment(*children: object) -> Html:
    """Join pieces of a page; those that are not `Html` are escaped."""
    return Html("".join(escaped(child) for child in children))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Build one element.

    Args:
        tag: Element name.
        *children: Content; everything that is not `Html` is escaped.
        **attributes: `class_` becomes `class` and `data_x` becomes `data-x`. A value of `None` or
            `False` omits the attribute, `True` writes it bare.
    """
    opening = f"<{tag}{_attributes(attributes)}>"
    if tag in _VOID:
        assert not children, f"<{tag}> has no content"
        return Html(opening)
    return Html(f"{opening}{fragment(*children)}</{tag}>")


def data_uri(content: bytes, media_type: str) -> str:
    """Return `content` as a `data:` address, so that the page needs no second file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def digest(content: str) -> str:
    """Return the base64 SHA-256 by which a content security policy allows an inline script."""
    return base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _attributes(attributes: Mapping[str, object]) -> str:
    written = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        # An attribute is never markup, so here `Html` is escaped like any other text.
        written.append(f" {name}" if value is True else f' {name}="{html.escape(readable(value))}"')
    return "".join(written)
