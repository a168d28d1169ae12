"""State machines: every transition of one direction, and the ways that ordinary connections take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pictures_svg import BLUE, GREEN, GREY, LINE, ORANGE, PALE_GREEN, PALE_GREY, line, svg, text

from ipvs_model import IPVS, Packet
from ipvs_model.events import StateChanged
from ipvs_model.tools.states import DIRECTIONS, Machine, machine

COLOURS: Final = {"INPUT": BLUE, "OUTPUT": ORANGE, "INPUT_ONLY": GREEN}
TIPS: Final = {"INPUT": "blue", "OUTPUT": "orange", "INPUT_ONLY": "green"}
ROW: Final = 34
LEFT: Final = 176
LANE: Final = 26
WIDTH: Final = 660
LEAST_WIDTH: Final = 360


def all_transitions(protocol: str, direction: str) -> str:
    """Lanes below each event: from the dots of the present states a line leads to the bar at the next one; no dot, or a ring: the state stays."""
    shown = machine(protocol)
    everywhere = all(rows == shown.rows[direction] for rows in shown.rows.values())
    title = f"{shown.name}, {'in every direction' if everywhere else DIRECTIONS[direction]}"
    parts = [text(14, 24, title, size=15, bold=True)]
    top, right, cells = 40, LEAST_WIDTH, list(shown.rows[direction].items())
    while cells:
        taken, cells = _fitting(cells)
        parts += _panel(shown, direction, taken, top)
        right = max(right, LEFT + sum(_width(*cell) for cell in taken) + 10)
        top += 40 + ROW * len(shown.states) + 14
    return svg(right, top, parts, title)


def _lanes(following: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Next state → the present states that another one follows on, in the order of the states."""
    lanes: dict[int, list[int]] = {}
    for present, after in enumerate(following):
        if present != after:
            lanes.setdefault(after, []).append(present)
    return sorted(lanes.items())


def _width(event: str, following: Sequence[int]) -> int:
    return max(30 + LANE * len(_lanes(following)), 12 + 8 * len(event))


def _fitting(cells: list[tuple[str, tuple[int, ...]]]) -> tuple[list[tuple[str, tuple[int, ...]]], list[tuple[str, tuple[int, ...]]]]:
    """The events that have room beside each other, and the rest."""
    used = LEFT
    for number, (event, following) in enumerate(cells):
        used += _width(event, following)
        if used > WIDTH - 10:
            return cells[:number], cells[number:]
    return cells, []


def _panel(shown: Machine, direction: str, cells: Sequence[tuple[str, tuple[int, ...]]], top: int) -> list[str]:
    first = top + 30
    right = LEFT + sum(_width(*cell) for cell in cells)
    parts = []
    for number, state in enumerate(shown.states):
        y = first + ROW * number
        parts.append(f'<rect x="14" y="{y}" width="{LEFT - 30}" height="{ROW - 6}" rx="5" fill="{PALE_GREEN if state.active else PALE_GREY}" stroke="{LINE}"/>')
        parts.append(text(22, y + 18, state.name, bold=True, size=12) + text(LEFT - 22, y + 18, f"{state.timeout} s", size=11, colour=GREY, anchor="end"))
        parts.append(f'<path d="M{LEFT - 12} {y + 14}H{right}" stroke="#e3e6ea"/>')
    x = LEFT
    for event, following in cells:
        width = _width(event, following)
        parts.append(text(x + width / 2, top + 18, event.replace("_", "-"), anchor="middle", bold=True, size=12))
        lanes = _lanes(following)
        start = x + width / 2 - LANE * (len(lanes) - 1) / 2
        for lane, (after, before) in enumerate(lanes):
            parts += _lane(start + LANE * lane, first + 14, after, before, direction)
        if not lanes:
            ring = f'r="5" fill="#fff" stroke="{COLOURS[direction]}" stroke-width="2"'
            parts += [f'<circle cx="{x + width / 2:g}" cy="{first + 14 + ROW * number}" {ring}/>' for number in range(len(following))]
        x += width
    return parts


def _lane(x: float, first: float, after: int, before: Sequence[int], direction: str) -> list[str]:
    colour = COLOURS[direction]
    target = first + ROW * after
    parts = [f'<circle cx="{x:g}" cy="{first + ROW * state}" r="4" fill="{colour}"/>' for state in before]
    above, below = [state for state in before if state < after], [state for state in before if state > after]
    for side, furthest, gap in ((above, min, -5), (below, max, 5)):
        if side:
            parts.append(line([(x, first + ROW * furthest(side)), (x, target + gap)], colour=colour, tip=TIPS[direction], width=2))
    parts.append(f'<path d="M{x - 8:g} {target}H{x + 8:g}" stroke="{colour}" stroke-width="3"/>')
    return parts


# --- the ways of ordinary connections -----------------------------------------------------------------------------------

#: what is said on a connection behind NAT: > by the client, < by the server
STORIES: Final = (
    (">S", "<SA", ">A", ">FA", "<FA", ">A"),
    (">S", "<SA", ">A", "<FA", ">FA", "<A"),
    (">S", "<SA", ">A", ">R"),
    (">S", "<RA"),
)
PLACES: Final = {
    "NONE": (20, 60), "SYN_RECV": (20, 180), "ESTABLISHED": (245, 180), "CLOSE_WAIT": (470, 180), "FIN_WAIT": (245, 300), "TIME_WAIT": (470, 380), "CLOSE": (20, 380),
}  # fmt: skip


def walked() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Transitions that the stories go through in a live IPVS: (from, to) → (direction, event)."""
    edges: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for port, story in enumerate(STORIES, 40000):
        ipvs = IPVS()
        web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
        ipvs.add_dest(web, "10.1.0.11:80")
        client = f"203.0.113.7:{port}"
        for who, *flags in story:
            ends = (client, "192.0.2.1:80") if who == ">" else ("10.1.0.11:80", client)
            for event in ipvs.receive(Packet.tcp(*ends, "".join(flags))).reason.events:
                if isinstance(event, StateChanged) and event.before != event.after:
                    told = edges.setdefault((event.before, event.after), [])
                    if (event.direction, event.event) not in told:
                        told.append((event.direction, event.event))
    return edges


def ordinary() -> str:
    """The part of TCP's machine that ordinary connections use."""
    shown = machine("tcp")
    rows = {state.name: state for state in shown.states}
    parts = [text(14, 24, "TCP behind NAT: the ways of ordinary connections", size=15, bold=True)]
    parts += [text(20, 44, "from the client", colour=BLUE), text(130, 44, "from the server", colour=ORANGE)]
    for (before, after), told in walked().items():
        parts.append(_way(PLACES[before], PLACES[after], told))
    for name, (x, y) in PLACES.items():
        state = rows[name]
        parts.append(f'<rect x="{x}" y="{y}" width="150" height="46" rx="8" fill="{PALE_GREEN if state.active else PALE_GREY}" stroke="{LINE}"/>')
        parts.append(text(x + 75, y + 20, name, bold=True, anchor="middle", size=14))
        parts.append(text(x + 75, y + 37, f"{state.timeout} s, {'active' if state.active else 'inactive'}", size=12, colour=GREY, anchor="middle"))
    return svg(WIDTH, 450, parts, "TCP states of ordinary connections behind NAT")


def _way(start: tuple[int, int], end: tuple[int, int], told: Sequence[tuple[str, str]]) -> str:
    """An arrow from box to box, and at its middle what was said."""
    (x1, y1), (x2, y2) = (start[0] + 75, start[1] + 23), (end[0] + 75, end[1] + 23)
    span = max(abs(x2 - x1) / 75, abs(y2 - y1) / 23)
    ux, uy = (x2 - x1) / span, (y2 - y1) / span
    direction = told[0][0]
    words = " / ".join(event for _, event in told)
    arrow = line([(x1 + ux, y1 + uy), (x2 - ux, y2 - uy)], colour=COLOURS[direction], tip=TIPS[direction], width=2)
    mx, my = (x1 + x2) / 2, (y1 + y2) / 2
    return arrow + f'<rect x="{mx - 5 * len(words) - 4:g}" y="{my - 9:g}" width="{10 * len(words) + 8}" height="19" fill="#fff"/>' + text(mx, my + 5, words, colour=COLOURS[direction], anchor="middle")
