"""A protocol's state machine as text, Mermaid or SVG, drawn from the tables that the model itself runs on."""

from collections.abc import Iterable, Mapping
from html import escape
from math import cos, hypot, pi, sin
from typing import Final

from attrs import frozen

from ipvs_model.protocol import DIRECTION_NAMES, StateRow
from ipvs_model.protocols import sctp, tcp, udp

#: direction → how people put it
DIRECTIONS: Final = {"INPUT": "from the client", "OUTPUT": "from the server", "INPUT_ONLY": "from the client, server not seen"}
COLOURS: Final = {"INPUT": "#1f6fb2", "OUTPUT": "#c2571a", "INPUT_ONLY": "#5a8f3c"}


@frozen
class Machine:
    """A state machine: `rows[direction]` maps each event to the index of the next state for each present state."""

    name: str
    states: tuple[StateRow, ...]
    codes: tuple[str, ...]  #: two letters for each state, for wide tables
    rows: Mapping[str, Mapping[str, tuple[int, ...]]]

    def edges(self, directions: Iterable[str]) -> dict[tuple[int, int], list[tuple[str, str]]]:
        """(from, to) → the (direction, event) pairs that lead there; staying in a state is no edge."""
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for direction in directions:
            for event, cells in self.rows[direction].items():
                for present, following in enumerate(cells):
                    if present != following:
                        found.setdefault((present, following), []).append((direction, event))
        return found


def machine(protocol: str, *, secure: bool = False) -> Machine:
    """The state machine of "tcp", "udp" or "sctp"; `secure`: TCP while secure_tcp is in force.

    >>> machine("tcp").rows["INPUT"]["syn"][:4]
    (3, 1, 1, 3)
    """
    if protocol == "tcp":
        table = tcp.TABLES["secure" if secure else "normal"]
        rows = {direction: {event: tuple(map(tcp.CODES.index, text.split())) for event, text in cells.items()} for direction, cells in table.items()}
        return Machine("TCP, secure_tcp" if secure else "TCP", tcp.STATES, tcp.CODES, rows)
    if protocol == "sctp":
        chunks = {
            direction: {event.name: tuple(int(state) for state in cells) for event, cells in table}
            for direction, table in zip(DIRECTION_NAMES, sctp.TABLES, strict=True)
        }
        return Machine("SCTP", sctp.STATES, sctp.CODES, chunks)
    if protocol == "udp":
        return Machine("UDP", udp.STATES, ("UD",), {direction: {"datagram": (0,)} for direction in DIRECTION_NAMES})
    raise ValueError(f"no state machine for {protocol!r}: tcp, udp and sctp have one")


def as_text(shown: Machine, directions: Iterable[str]) -> str:
    """States with their timeouts, then a table for each direction: events down, present states across, next state in the cell."""
    lines = [f"{shown.name}: states", f"  {'':3} {'state':12} {'timeout':>8}  counts as"]
    for code, state in zip(shown.codes, shown.states, strict=True):
        lines.append(f"  {code:3} {state.name:12} {state.timeout:6} s  {'active' if state.active else 'inactive'}")
    for direction in directions:
        width = max(map(len, shown.rows[direction]))
        lines += ["", f"{direction} ({DIRECTIONS[direction]}): event down, present state across, next state in the cell"]
        lines.append("  " + " " * width + "  " + "  ".join(shown.codes))
        for event, cells in shown.rows[direction].items():
            lines.append(f"  {event:{width}}  " + "  ".join(shown.codes[following] for following in cells))
    return "\n".join(lines) + "\n"


def _label(pairs: list[tuple[str, str]]) -> str:
    by_events: dict[str, list[str]] = {}
    for direction in DIRECTIONS:
        events = ", ".join(event for at, event in pairs if at == direction)
        if events:
            by_events.setdefault(events, []).append(direction)
    return " / ".join(f"{'+'.join(directions)} {events}" for events, directions in by_events.items())


def as_mermaid(shown: Machine, directions: Iterable[str]) -> str:
    """A Mermaid stateDiagram-v2, as GitHub and many wikis draw it."""
    lines = ["stateDiagram-v2"]
    for code, state in zip(shown.codes, shown.states, strict=True):
        lines.append(f'    state "{state.name} ({state.timeout} s)" as {code}')
    for (present, following), pairs in shown.edges(directions).items():
        lines.append(f"    {shown.codes[present]} --> {shown.codes[following]}: {_label(pairs)}")
    return "\n".join(lines) + "\n"


def as_svg(shown: Machine, directions: Iterable[str]) -> str:
    """A picture: states on an ellipse, an arrow for each pair, coloured by direction; the events stand at the arrow and in its tooltip."""
    chosen = tuple(directions)
    count, width, height = len(shown.states), 1200, 820
    centre = [
        (width / 2 + 470 * sin(2 * pi * n / count) * (count > 1), height / 2 + 20 - 320 * cos(2 * pi * n / count) * (count > 1)) for n in range(count)
    ]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" role="img">',
        f"<title>{escape(shown.name)}: states of an IPVS connection</title>",
        "<defs>",
        *(
            f'<marker id="tip-{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L10 5L0 10z" fill="{COLOURS[name]}"/></marker>'
            for name in chosen
        ),
        "</defs>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for n, name in enumerate(chosen):
        out.append(f'<text x="16" y="{26 + 20 * n}" font-size="15" fill="{COLOURS[name]}">{name}: {DIRECTIONS[name]}</text>')
    for lane, name in enumerate(chosen):
        for (present, following), pairs in shown.edges([name]).items():
            out.append(_arrow(centre[present], centre[following], 14 + 20 * lane, name, f"{shown.codes[present]} to {shown.codes[following]}", pairs))
    for (x, y), code, state in zip(centre, shown.codes, shown.states, strict=True):
        fill = "#e3f1e1" if state.active else "#f1f1f1"
        out.append(f'<rect x="{x - 66:.1f}" y="{y - 23:.1f}" width="132" height="46" rx="9" fill="{fill}" stroke="#444"/>')
        out.append(f'<text x="{x:.1f}" y="{y - 3:.1f}" font-size="14" font-weight="bold" text-anchor="middle">{escape(state.name)}</text>')
        detail = f"{code} · {state.timeout} s · {'active' if state.active else 'inactive'}"
        out.append(f'<text x="{x:.1f}" y="{y + 14:.1f}" font-size="11" text-anchor="middle">{detail}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _arrow(start: tuple[float, float], end: tuple[float, float], bend: float, direction: str, name: str, pairs: list[tuple[str, str]]) -> str:
    (x1, y1), (x2, y2) = start, end
    length = hypot(x2 - x1, y2 - y1)
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    cx, cy = (x1 + x2) / 2 - uy * bend * 2, (y1 + y2) / 2 + ux * bend * 2  # the bend keeps the two ways between a pair apart
    edge1, edge2 = _border(ux, uy), _border(-ux, -uy)
    path = f"M{x1 + edge1[0]:.1f} {y1 + edge1[1]:.1f}Q{cx:.1f} {cy:.1f} {x2 + edge2[0]:.1f} {y2 + edge2[1]:.1f}"
    # labels a third of the way along: the middle of a round picture is crowded
    lx, ly = (4 * x1 + 4 * cx + x2) / 9, (4 * y1 + 4 * cy + y2) / 9
    events = ", ".join(event for _, event in pairs)
    return (
        f'<g fill="none"><title>{escape(f"{name}: {direction} {events}")}</title>'
        f'<path d="{path}" stroke="{COLOURS[direction]}" stroke-width="1.3" marker-end="url(#tip-{direction})"/>'
        f'<text x="{lx:.1f}" y="{ly:.1f}" font-size="9.5" fill="{COLOURS[direction]}" text-anchor="middle">{escape(events.lower())}</text></g>'
    )


def _border(ux: float, uy: float) -> tuple[float, float]:
    """Where a ray from the centre leaves a state's box."""
    scale = min(66 / abs(ux) if ux else 1e9, 23 / abs(uy) if uy else 1e9)
    return ux * scale, uy * scale
