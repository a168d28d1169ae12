"""What the pictures of the book are made of. Each has a light card of its own, so that it is readable on a dark page, and text that survives 400 pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

INK: Final = "#1f2328"
GREY: Final = "#57606a"
LINE: Final = "#8b949e"
BLUE: Final = "#1f6fb2"
ORANGE: Final = "#c2571a"
GREEN: Final = "#5a8f3c"
PALE_BLUE: Final = "#dbe9f6"
PALE_GREEN: Final = "#e3f1e1"
PALE_YELLOW: Final = "#fbeed5"
PALE_GREY: Final = "#f1f3f5"


def svg(width: int, height: int, parts: Iterable[str], title: str) -> str:
    """A whole picture; it scales with its page."""
    tips = "".join(
        f'<marker id="tip-{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
        for name, colour in (("ink", INK), ("blue", BLUE), ("orange", ORANGE), ("green", GREEN), ("line", LINE))
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" role="img">'
    card = f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<defs>{tips}</defs>", card, *parts, "</svg>", ""])


def text(x: float, y: float, words: object, *, size: int = 13, colour: str = INK, anchor: str = "start", bold: bool = False) -> str:
    """One line of text; y is its base line."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(str(words))}</text>'


def box(x: float, y: float, width: float, lines: Sequence[str], fill: str) -> str:
    """A box with lines of text, the first of them bold; 12 + 18 a line high."""
    parts = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{box_height(lines)}" rx="5" fill="{fill}" stroke="{LINE}"/>']
    parts += [text(x + 8, y + 19 + 18 * number, line, bold=number == 0) for number, line in enumerate(lines)]
    return "".join(parts)


def box_height(lines: Sequence[str]) -> int:
    return 10 + 18 * len(lines)


def line(points: Sequence[tuple[float, float]], *, colour: str = INK, tip: str = "", dashed: bool = False, width: float = 1.3) -> str:
    """A line through points; ``tip`` names the colour of its arrow head."""
    path = "L".join(f"{x:g} {y:g}" for x, y in points)
    end = f' marker-end="url(#tip-{tip})"' if tip else ""
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}{end}/>'
