"""The look of the figures, and how one becomes inline SVG that follows the page's colours.

Knows: matplotlib's style, the named colours of `style.css`. Must not know: what a figure shows.

Figures are drawn in stand-in colours, which are replaced by CSS variables when the SVG is written:
the same drawing is then legible in light mode, in dark mode and on paper.
"""

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bifocal.report.markup import Html, element, readable

INK, MUTED, GRID, SURFACE, ALARM = "#000001", "#000002", "#000003", "#000004", "#000005"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
FONT_SIZE = 12

# What SERIES look like on paper; also what pictures saved as PNG use. Six hues that stay apart
# under the three common colour-vision deficiencies (after Okabe and Ito, darkened to 4.5:1).
PRINTED = ("#0b6bb0", "#c04a06", "#007a5a", "#9c3f78", "#8a6100", "#4b5563")

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", SURFACE: "card", ALARM: "alarm"} | {
    stand_in: f"series-{number}" for number, stand_in in enumerate(SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "font.size": FONT_SIZE,
    "font.family": "DejaVu Sans",
    # Text stays text: it takes the page's font, can be selected and searched.
    "svg.fonttype": "none",
    # Identifiers are otherwise random, and the same run would never give the same page twice.
    "svg.hashsalt": "bifocal",
    # A caption that costs "$5 or $6" is not a formula.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": "medium",
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "xtick.major.size": 4,
    "xtick.labelsize": "medium",
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "ytick.labelsize": "medium",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "path.simplify_threshold": 0.2,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the style while a figure is made and saved, and leave matplotlib as it was."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Glyphs that DejaVu lacks (Chinese, emoji) are drawn by the browser, which has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def pixel_figure(width: float | int, height: float | int) -> Figure:
    """Return an empty figure of `width` by `height` CSS pixels, one pixel being one point."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def inline_svg(figure: Figure, description: str) -> Html:
    """Return a figure as an `<svg>` element in the page's colours.

    Args:
        figure: Drawn inside `drawing()`, in this module's stand-in colours.
        description: What a reader who cannot see it is told.
    """
    buffer = io.BytesIO()
    # Of an SVG, `dpi` rules only the pictures in it: two pixels a point, for dense screens.
    figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=144)
    root = ElementTree.fromstring(buffer.getvalue())
    # All figures share one page, and matplotlib names the parts of each alike.
    prefix = (
        "f" + hashlib.sha256(readable(description).encode() + buffer.getvalue()).hexdigest()[:8]
    )
    return element(
        "svg",
        *(_translated(child, prefix) for child in root),
        viewBox=root.get("viewBox"),
        role="img",
        aria_label=description,
    )


def _translated(node: ElementTree.Element, prefix: str) -> Html:
    """Return one node of matplotlib's SVG as part of an HTML page."""
    tag = _local(node.tag)
    # The metadata name foreign addresses; the style rule would apply to the whole page.
    if tag in ("metadata", "style"):
        return Html("")
    attributes = {}
    for name, value in node.attrib.items():
        match _local(name):
            case "id":
                value = f"{prefix}-{value}"
            case "href" if value.startswith("#"):
                value = f"#{prefix}-{value[1:]}"
            case "href":
                value = "".join(value.split())
            case "clip-path":
                value = value.replace("url(#", f"url(#{prefix}-")
            case "style":
                value = _page_style(value)
            case "d":
                value = " ".join(re.sub(r"(\.\d\d)\d+", r"\1", value).split())
            case _:
                pass
        attributes[_local(name)] = value
    text = node.text if tag in ("text", "tspan") and node.text else ""
    return element(tag, text, *(_translated(child, prefix) for child in node), **attributes)


def _local(name: str) -> str:
    """Return a name without its XML namespace, which HTML does not have."""
    return name.rpartition("}")[2]


def _page_style(style: str) -> str:
    style = re.sub(r"font-family: [^;]*(; )?", "", style)
    return re.sub(r"#0000[01][1-6]", _variable, style)


def _variable(stand_in: re.Match[str]) -> str:
    name = _VARIABLES.get(stand_in.group())
    return stand_in.group() if name is None else f"var(--{name})"
