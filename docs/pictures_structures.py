"""Who refers to whom: the structures of a live IPVS, and their references as time goes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pictures_svg import BLUE, GREEN, GREY, INK, ORANGE, PALE_BLUE, PALE_GREEN, PALE_GREY, PALE_YELLOW, box, box_height, line, svg, text

from ipvs_model import IPVS, Conn, Dest, Packet, Service
from ipvs_model.events import Event
from ipvs_model.timers import Bucket
from ipvs_model.tools.states import machine

INDENT: Final = 46
BOX: Final = 330


def structures() -> str:
    """A persistent service with two servers and two clients after three connections: each arrow is a pointer that the object has."""
    ipvs = IPVS()
    web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr", persistent=300)
    for address in ("10.1.0.11:8080", "10.1.0.12:8080"):
        ipvs.add_dest(web, address)
    for client in ("203.0.113.7:40000", "203.0.113.7:40001", "203.0.113.8:40000"):
        ipvs.receive(Packet.tcp(client, "192.0.2.1:80", "S"))
    rows: list[tuple[object, int, list[str], str]] = []
    dests = ", ".join(str(dest.key()) for dest in web.destinations)
    rows.append((web, 0, [f"service {web.key()}", f"persistent 300 s, rr, refcnt {web.refcnt}"], PALE_BLUE))
    for dest in web.destinations:
        counts = f"active {dest.activeconns}, inactive {dest.inactconns}, templates {dest.persistconns}, refcnt {dest.refcnt}"
        rows.append((dest, 1, [f"destination {dest.key()}", counts], PALE_GREEN))
        for cp in sorted(ipvs.conns(dest=dest), key=lambda cp: (not cp.is_template, cp.client)):
            client = str(cp.key()).split(" -> ")[0]
            words = [f"{'template' if cp.is_template else 'entry'} {client}", f"{cp.state_name}, refcnt {cp.refcnt}, n_control {cp.n_control}"]
            rows.append((cp, 2, words, PALE_YELLOW if cp.is_template else PALE_GREY))
    protocol = ipvs.ns.protocols[web.protocol].pp
    rows.append((protocol, 2, [f"protocol {protocol.name}", f"{len(machine('tcp').states)} states, and how a packet moves between them"], PALE_BLUE))
    places: dict[int, tuple[float, float]] = {}
    parts = [text(14, 24, "Three connections of two clients of a persistent service", size=15, bold=True)]
    y = 40.0
    for thing, depth, lines, fill in rows:
        places[id(thing)] = (14 + INDENT * depth, y)
        parts.append(box(14 + INDENT * depth, y, BOX, lines, fill))
        y += box_height(lines) + 14
    for thing, _, _, _ in rows:
        owner = thing.dest if isinstance(thing, Conn) else thing.svc if isinstance(thing, Dest) else None
        if owner is not None:
            parts += _pointer(places[id(thing)], places[id(owner)], "dest" if isinstance(thing, Conn) else "svc")
    parts += _rail([places[id(cp)] for cp, _, _, _ in rows if isinstance(cp, Conn)], places[id(protocol)])
    controlled = [cp for cp, _, _, _ in rows if isinstance(cp, Conn) and cp.control is not None]
    for number, cp in enumerate(controlled):
        (x1, y1), (_, y2) = places[id(cp)], places[id(cp.control)]
        right, lane = x1 + BOX, x1 + BOX + 24 + 24 * (number % 2)
        parts.append(line([(right, y1 + 23), (lane, y1 + 23), (lane, y2 + 23), (right + 2, y2 + 23)], colour=ORANGE, tip="orange", dashed=True))
        parts.append(text(lane + 5, y1 + 27, "control", size=12, colour=ORANGE))
    parts.append(text(14, y + 8, f"destinations of the service, newest first: {dests}", size=12, colour=GREY))
    return svg(560, round(y) + 22, parts, "service, destinations, templates and entries, and the pointers between them")


def _pointer(start: tuple[float, float], end: tuple[float, float], name: str) -> list[str]:
    """From the left edge of a box to the bottom of its owner's left part."""
    x, top = end[0] + 16, end[1] + box_height(["", ""])
    return [line([(start[0], start[1] + 23), (x, start[1] + 23), (x, top + 1)], tip="ink"), text(x + 3, start[1] + 18, name, size=11, colour=GREY)]


def _rail(starts: Sequence[tuple[float, float]], end: tuple[float, float]) -> list[str]:
    """From the right edge of each entry down to its protocol."""
    x, right = starts[0][0] + BOX + 98, starts[0][0] + BOX
    parts = [line([(right, y + 10), (x, y + 10)], colour=GREEN) for _, y in starts]
    parts.append(line([(x, starts[0][1] + 10), (x, end[1] + 23), (end[0] + BOX + 2, end[1] + 23)], colour=GREEN, tip="green"))
    return [*parts, text(x - 4, end[1] + 17, "protocol", size=12, colour=GREEN, anchor="end")]


# --- references on a time line ------------------------------------------------------------------------------------------

STEP: Final = 21
HEIGHT: Final = 62
#: what is looked at, and its colour
ROWS: Final = (("entry: refcnt", BLUE), ("template: refcnt", ORANGE), ("template: n_control", ORANGE), ("server: refcnt", GREEN))


def fires(cp: Conn) -> int:
    """The jiffy at which an entry's timer will fire."""
    assert isinstance(cp.bucket, Bucket)
    return cp.bucket.tick


class Story:
    """A connection of a persistent service from the server's addition to its end; every change of a reference is a moment."""

    def __init__(self) -> None:
        self.ipvs = IPVS()
        self.start = self.ipvs.clock.now
        self.moments: list[tuple[int | None, ...]] = []
        self.chapters: list[tuple[int, str]] = []
        self.server: Dest | None = None
        self.ipvs.subscribe(self.look)

    def counts(self) -> tuple[int | None, ...]:
        entry = next(iter(self.ipvs.conns(templates=False)), None)
        template = next(iter(self.ipvs.conns(templates=True)), None)
        there = any(self.server is dest for service in self.ipvs.services for dest in service.destinations) or self.server in self.ipvs.ns.trash.dests
        return (
            entry.refcnt if entry else None,
            template.refcnt if template else None,
            template.n_control if template else None,
            self.server.refcnt if self.server is not None and there else None,
        )

    def look(self, event: Event | None = None) -> None:
        if not self.moments or self.counts() != self.moments[-1]:
            self.moments.append(self.counts())

    def chapter(self, words: str, happens: Callable[[], object]) -> None:
        at = len(self.moments)
        happens()
        self.look()
        if len(self.moments) == at:
            self.moments.append(self.counts())
        self.chapters.append((at, words))

    def add(self, web: Service) -> None:
        self.server = self.ipvs.add_dest(web, "10.1.0.11:8080")

    def tell(self) -> None:
        ipvs = self.ipvs
        web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr", persistent=5)
        self.moments.clear()
        self.chapter("server added", lambda: self.add(web))
        for flags in ("S", "A", "R"):
            self.chapter(f"client {flags}", lambda flags=flags: ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", flags)))
        while ipvs.conns():
            cp = min(ipvs.conns(), key=fires)
            words = f"{(fires(cp) - self.start) / 250:.1f} s: {'template' if cp.is_template else 'entry'}'s timer"
            self.chapter(words, lambda cp=cp: ipvs.clock.advance_to(fires(cp)))
        self.chapter("server deleted", lambda: ipvs.delete_dest(web, "10.1.0.11:8080"))
        self.chapter("freed", lambda: ipvs.clock.advance(seconds=400))


def references() -> str:
    """References of an entry, its template and their server, from the first packet to the end."""
    story = Story()
    story.tell()
    left, top = 104, 170
    width = left + STEP * len(story.moments) + 60
    parts = [text(14, 24, "References of one connection of a persistent service (-p 5)", size=15, bold=True)]
    parts.append(text(14, 42, "a step for each change of a reference, not to scale", size=12, colour=GREY))
    bottom = top + HEIGHT * len(ROWS)
    for at, words in story.chapters:
        x = left + STEP * at
        parts.append(f'<path d="M{x} {top - 8}V{bottom}" stroke="#d0d7de" stroke-dasharray="3 3"/>')
        parts.append(f'<text transform="translate({x + 10} {top - 10}) rotate(-50)" font-size="12" fill="{INK}">{words}</text>')
    for row, (name, colour) in enumerate(ROWS):
        base = top + HEIGHT * row + HEIGHT - 12
        parts += [text(14, base - 8, part, size=12, colour=colour, bold=not number) for number, part in enumerate(name.split(": ")[1:])]
        parts.append(text(14, base - 24, name.split(":")[0], size=12, colour=colour))
        parts += _steps([moment[row] for moment in story.moments], left, base, colour)
    return svg(width, bottom + 10, parts, "references of an entry, its template and their server on a time line")


def _steps(values: Sequence[int | None], left: int, base: int, colour: str) -> list[str]:
    """A stepped line with the number at the beginning of each step; None: the object is not there."""
    parts, points = [], []
    before: int | None = None
    for number, value in enumerate(values):
        x = left + STEP * number
        if value is not None:
            y = base - 11 * value
            points += [(x, y), (x + STEP, y)]
            if value != before:
                parts.append(text(x + 4, y - 4, value, size=12, colour=colour))
        if points and (value is None or number == len(values) - 1):
            parts.append(line(points, colour=colour, width=2))
            points = []
        before = value
    return parts
