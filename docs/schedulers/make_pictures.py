"""Draws the pictures of the scheduler pages from runs of the code: ``python docs/schedulers/make_pictures.py`` rewrites the SVG files beside it.

A test compares the files with what this script draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ipvs_model.addresses import parse_addr
from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET, IP_VS_DEST_CF_AVAILABLE
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.packet.view import fill_iph
from ipvs_model.schedulers import Registry, bind_scheduler
from ipvs_model.service import Service, ServiceUser

COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
GREY: Final = "#d8dce0"
CELL: Final = 18


# --- runs -------------------------------------------------------------------------------------------------------------


class Pool:
    """A service with servers A, B, C, … (added in this order, so the last one is first in the list)."""

    def __init__(self, scheduler: str, *weights: int) -> None:
        self.ns = Netns(Environment(seed=1))
        self.svc = Service(self.ns, ServiceUser(addr=parse_addr("192.0.2.1")[1], port=80))
        bind_scheduler(self.svc, Registry().get(scheduler))
        self.servers: list[Dest] = []
        self.ends: list[tuple[int, Dest]] = []
        for weight in weights:
            self.add(weight)

    def add(self, weight: int) -> None:
        dest = Dest(self.svc, AF_INET, 0x0A010001 + len(self.servers), 80)
        dest.weight = dest.last_weight = weight
        dest.cflags = IP_VS_DEST_CF_AVAILABLE
        self.servers.append(dest)
        self.svc.destinations.insert(0, dest)
        self.svc.scheduler.add_dest(self.svc, dest)

    def weigh(self, server: int, weight: int) -> None:
        dest = self.servers[server]
        dest.weight = weight
        dest.last_weight = weight or dest.last_weight
        self.svc.scheduler.upd_dest(self.svc, dest)

    def remove(self, server: int) -> None:
        dest = self.servers[server]
        dest.cflags = 0
        position = self.svc.destinations.index(dest)
        del self.svc.destinations[position]
        self.svc.scheduler.del_dest(self.svc, dest, position)

    def ask(self, client: str = "203.0.113.1", virtual: str = "192.0.2.1") -> int | None:
        """The number of the server chosen for a packet."""
        packet = Packet.tcp(f"{client}:40000", f"{virtual}:80", "S")
        dest = self.svc.scheduler.schedule(self.svc, packet, fill_iph(packet))
        return None if dest is None else self.servers.index(dest)

    def connect(self, now: int, lasts: int, virtual: str = "192.0.2.1") -> int | None:
        """Open an active connection that lasts so many steps; the older ones that are over end first."""
        for end, dest in [item for item in self.ends if item[0] <= now]:
            self.ends.remove((end, dest))
            dest.activeconns -= 1
            dest.totalconns -= 1
        chosen = self.ask(virtual=virtual)
        if chosen is not None:
            dest = self.servers[chosen]
            dest.activeconns += 1
            dest.totalconns += 1
            self.ends.append((now + lasts, dest))
        return chosen


# --- drawing ----------------------------------------------------------------------------------------------------------


class Svg:
    """A sheet that grows downwards."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.width = self.height = 0

    def text(self, x: int, y: int, words: object, *, fill: str = "#222", anchor: str = "start", size: int = 12) -> None:
        self.parts.append(f'<text x="{x}" y="{y}" fill="{fill}" text-anchor="{anchor}" font-size="{size}">{words}</text>')
        self.reach(x + (7 * len(str(words)) if anchor == "start" else 0), y)

    def cells(self, places: Iterable[tuple[int, int]], fill: str, *, hollow: bool = False) -> None:
        """Squares of one colour, as one path."""
        path = ""
        for x, y in places:
            path += f"M{x} {y}h{CELL - 2}v{CELL - 2}h-{CELL - 2}z"
            self.reach(x + CELL, y + CELL)
        if path:
            style = f'fill="#fff" stroke="{fill}" stroke-width="1.5"' if hollow else f'fill="{fill}"'
            self.parts.append(f'<path d="{path}" {style}/>')

    def line(self, x: int, y: int, height: int) -> None:
        self.parts.append(f'<path d="M{x} {y}v{height}" stroke="#555" stroke-dasharray="3 2"/>')

    def reach(self, x: int, y: int) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def __str__(self) -> str:
        width, height = self.width + 10, self.height + 10
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">'
        return "\n".join([head, f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>', *self.parts, "</svg>", ""])


def strip(
    rows: list[str],
    choices: list[int | None],
    *,
    numbers: list[list[int]] | None = None,
    drawn: list[set[int]] | None = None,
    events: dict[int, str] | None = None,
    footer: tuple[str, list[int]] | None = None,
) -> Svg:
    """One column a connection, one row a server; the server chosen is filled in. Numbers stand in the cells, events above."""
    sheet, left, top = Svg(), 90, 40
    for row, name in enumerate(rows):
        y = top + row * CELL
        sheet.text(8, y + 13, name, fill=COLOURS[row])
        columns = [(left + column * CELL, y) for column in range(len(choices))]
        hit = [place for place, choice in zip(columns, choices, strict=True) if choice == row]
        seen = [place for column, place in enumerate(columns) if drawn and row in drawn[column] and choices[column] != row]
        sheet.cells([place for place in columns if place not in hit and place not in seen], GREY)
        sheet.cells(seen, COLOURS[row], hollow=True)
        sheet.cells(hit, COLOURS[row])
        for column, (x, _) in enumerate(columns):
            if numbers:
                sheet.text(x + 8, y + 12, numbers[column][row], fill="#fff" if choices[column] == row else "#555", anchor="middle", size=10)
        sheet.text(left + len(choices) * CELL + 8, y + 13, choices.count(row), fill=COLOURS[row])
    bottom = top + len(rows) * CELL
    for column, words in (events or {}).items():
        sheet.line(left + column * CELL - 1, 22, bottom - 22)
        sheet.text(left + column * CELL + 2, 30, words, size=11)
    if footer:
        sheet.text(8, bottom + 13, footer[0])
        for column, number in enumerate(footer[1]):
            sheet.text(left + column * CELL + 8, bottom + 12, number, anchor="middle", size=10)
    return sheet


def squares(sheet: Svg, left: int, title: str, table: list[int], changed: set[int] | None = None) -> None:
    """256 buckets as a square, row by row, in the colours of the servers; changed ones carry a dot."""
    sheet.text(left, 18, title)
    place = {bucket: (left + bucket % 16 * CELL, 28 + bucket // 16 * CELL) for bucket in range(len(table))}
    for server in sorted(set(table)):
        sheet.cells((place[bucket] for bucket, owner in enumerate(table) if owner == server), COLOURS[server])
    dots = "".join(f"M{place[bucket][0] + 5} {place[bucket][1] + 8}h6" for bucket in sorted(changed or ()))
    if dots:
        sheet.parts.append(f'<path d="{dots}" stroke="#fff" stroke-width="5" stroke-linecap="round"/>')


# --- the pictures -----------------------------------------------------------------------------------------------------


def names(pool: Pool) -> list[str]:
    return [f"{'ABCDE'[number]} (w {dest.weight})" for number, dest in enumerate(pool.servers)]


def draw_rr() -> Svg:
    pool = Pool("rr", 1, 1, 1)
    choices = [pool.ask() for _ in range(5)]
    pool.add(1)
    choices += [pool.ask() for _ in range(6)]
    pool.weigh(1, 0)
    choices += [pool.ask() for _ in range(7)]
    return strip(["A", "B", "C", "D"], choices, events={5: "D is added", 11: "B: weight 0"})


def draw_wrr() -> Svg:
    pool = Pool("wrr", 2, 3, 4)
    choices, thresholds = [], []
    for _ in range(21):
        choices.append(pool.ask())
        thresholds.append(pool.svc.sched_data.cw)
    return strip(names(pool), choices, footer=("threshold", thresholds))


def loads(scheduler: str, weights: tuple[int, ...], lasts: Callable[[int], int], count: int = 26) -> Svg:
    """Connections one after the other; the numbers are the active connections that the scheduler sees."""
    pool = Pool(scheduler, *weights)
    choices, seen = [], []
    for now in range(count):
        choice = pool.connect(now, lasts(now))
        row = [dest.activeconns for dest in pool.servers]
        if choice is not None:
            row[choice] -= 1
        choices.append(choice)
        seen.append(row)
    return strip(names(pool), choices, numbers=seen)


def mixed(now: int) -> int:
    """Every fourth connection is a long one."""
    return 14 if now % 4 == 0 else 3


def draw_fo() -> Svg:
    pool = Pool("fo", 50, 100, 10)
    choices = [pool.ask() for _ in range(6)]
    pool.weigh(1, 0)
    choices += [pool.ask() for _ in range(6)]
    pool.weigh(0, 0)
    choices += [pool.ask() for _ in range(4)]
    pool.weigh(1, 100)
    choices += [pool.ask() for _ in range(4)]
    return strip(["A (w 50)", "B (w 100)", "C (w 10)"], choices, events={6: "B fails", 12: "A fails", 16: "B is back"})


def draw_twos() -> Svg:
    pool = Pool("twos", 1, 2, 3)
    order = [server for dest in pool.svc.destinations for server in [pool.servers.index(dest)] * dest.weight]
    draws: list[int] = []
    source = pool.ns.rng

    class Noted:
        def below(self, n: int) -> int:
            draws.append(source.below(n))
            return draws[-1]

    pool.ns.rng = Noted()  # type: ignore[assignment]
    choices, drawn = [], []
    for now in range(26):
        choices.append(pool.connect(now, mixed(now)))
        drawn.append({order[max(draw - 1, 0)] for draw in draws[-2:]})
    return strip(names(pool), choices, drawn=drawn)


def bucket_owners(pool: Pool, slots: int = 256) -> list[int]:
    data = pool.svc.sched_data
    table = data.ready(pool.svc) if hasattr(data, "ready") else data.table
    return [pool.servers.index(dest) for dest in table[:slots]]


def tables(scheduler: str, *weights: int) -> Svg:
    """The table before and after the last server but one leaves; dots mark clients that moved although their server stayed."""
    pool = Pool(scheduler, *weights)
    before, everything = bucket_owners(pool), bucket_owners(pool, 4093)
    title = ", ".join(names(pool))
    leaver = len(weights) - 2
    pool.remove(leaver)
    after, rest = bucket_owners(pool), bucket_owners(pool, 4093)
    moved = {bucket for bucket, (old, new) in enumerate(zip(everything, rest, strict=True)) if old not in (leaver, new)}
    stayed = sum(owner != leaver for owner in everything)
    sheet = Svg()
    squares(sheet, 8, title, before)
    letter = "ABCDE"[leaver]
    squares(sheet, 28 + 16 * CELL, f"{letter} has left: {100 * len(moved) / stayed:.1f} % of the rest moved (dots)", after, {n for n in moved if n < 256})
    return sheet


def draw_dh() -> Svg:
    pool = Pool("dh", 1, 1, 5)
    sheet = Svg()
    squares(sheet, 8, ", ".join(names(pool)), bucket_owners(pool))
    return sheet


def addresses(scheduler: str) -> Svg:
    """Connections of 9 steps to a busy address and a quiet one; a letter is the server, the number its active connections before."""
    pool = Pool(scheduler, 2, 2, 2)
    sheet, left = Svg(), 110
    addresses = ("198.51.100.1", "198.51.100.2")
    for row, address in enumerate(addresses):
        sheet.text(8, 20 + row * CELL, address)
    for now in range(30):
        row = int(now % 10 == 4)
        chosen = pool.connect(now, 9, addresses[row])
        if chosen is not None:
            x, y = left + now * (CELL + 4), 7 + row * CELL
            sheet.parts.append(f'<path d="M{x} {y}h{CELL + 2}v{CELL - 2}h-{CELL + 2}z" fill="{COLOURS[chosen]}"/>')
            sheet.text(x + 10, y + 12, f"{'ABC'[chosen]}{pool.servers[chosen].activeconns - 1}", fill="#fff", anchor="middle", size=10)
            sheet.reach(x + CELL + 4, y)
    return sheet


PICTURES: Final[dict[str, Callable[[], Svg]]] = {
    "rr": draw_rr,
    "wrr": draw_wrr,
    "lc": lambda: loads("lc", (1, 1, 4), mixed),
    "wlc": lambda: loads("wlc", (1, 1, 4), mixed),
    "sed": lambda: loads("sed", (1, 1, 4), lambda now: 6),
    "nq": lambda: loads("nq", (1, 1, 4), lambda now: 6),
    "fo": draw_fo,
    "ovf": lambda: loads("ovf", (1, 2, 4), lambda now: 9),
    "twos": draw_twos,
    "dh": draw_dh,
    "sh": lambda: tables("sh", 1, 2, 3, 2),
    "mh": lambda: tables("mh", 1, 2, 3, 2),
    "lblc": lambda: addresses("lblc"),
    "lblcr": lambda: addresses("lblcr"),
}


def main() -> None:
    for name, draw in PICTURES.items():
        (Path(__file__).parent / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
