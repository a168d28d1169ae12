"""The timer wheel: how late a timer fires, and where the timers of a live IPVS stand."""

from __future__ import annotations

from math import log10
from typing import Final

from pictures_svg import BLUE, GREEN, GREY, INK, ORANGE, PALE_GREY, line, svg, text

from ipvs_model import IPVS, Clock, Packet
from ipvs_model.conn import Conn
from ipvs_model.timers import LVL_DEPTH, LVL_SIZE, Bucket, FunctionTimer, lvl_gran, lvl_start

HZ: Final = 250
CELL: Final = 8


def wheel() -> str:
    """How late a timer fires: the bound, and timers armed at the boot jiffy, with delays as IPVS uses them marked."""
    width, height, left, bottom = 640, 360, 60, 310
    low, high = 0.1, 1030.0

    def x(seconds: float) -> float:
        return left + (width - left - 20) * log10(seconds / low) / log10(high / low)

    def y(late: float) -> float:
        return bottom - (bottom - 30) * late / 20

    parts = [line([(left, 30), (left, bottom), (width - 20, bottom)])]
    parts += [text(left - 8, y(late) + 4, f"{late} s", size=12, anchor="end") for late in range(0, 21, 4)]
    parts += [text(x(seconds), bottom + 18, f"{seconds:g} s", size=12, anchor="middle") for seconds in (0.1, 1, 10, 100, 1000)]
    path = ""
    for level in range(LVL_DEPTH):
        start, end = max(lvl_start(level) / HZ, low), min(lvl_start(level + 1) / HZ, high)
        if start < end:
            path += f"M{x(start):.1f} {y(lvl_gran(level) / HZ):.1f}H{x(end):.1f}"
    parts.append(f'<path d="{path}" stroke="{ORANGE}" stroke-width="2" fill="none"/>')
    dots = "".join(f"M{x(delay):.1f} {y(lateness(delay)):.1f}h.01" for delay in (low * 1.035**n for n in range(270)) if delay < high)
    parts.append(f'<path d="{dots}" stroke="{BLUE}" stroke-width="3" stroke-linecap="round"/>')
    for delay in (10, 60, 120, 300, 900):
        parts.append(line([(x(delay), bottom), (x(delay), 40)], colour="#888", dashed=True) + text(x(delay) - 3, 38, f"{delay} s", size=12, anchor="end"))
    parts += [text(left + 10, 52, "at most so late", colour=ORANGE), text(left + 10, 70, "armed now", colour=BLUE)]
    parts.append(text((left + width) / 2, height - 8, "delay asked for", anchor="middle"))
    return svg(width, height, parts, "lateness of kernel timers by delay, HZ 250")


def lateness(seconds: float) -> float:
    """Seconds that a timer of this delay fires after its expiry, armed at the boot jiffy."""
    clock = Clock(HZ)
    timer = FunctionTimer(lambda: None)
    clock.mod_timer(timer, clock.now + round(seconds * HZ))
    due = clock.next_deadline()
    assert due is not None
    return (due - timer.expires) / HZ


def busy() -> IPVS:
    """A director after ten minutes of clients that came every few seconds and ended in different ways, the last three by a reset."""
    ipvs = IPVS()
    web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    ipvs.add_dest(web, "10.1.0.11:80")
    for number in range(100):
        client = f"203.0.113.7:{40000 + number}"
        for who, flags in (("client", "S"), ("server", "SA"), ("client", "A"), ("client", "FA"), ("server", "FA"))[: (1, 3, 5)[number % 3]]:
            ends = (client, "192.0.2.1:80") if who == "client" else ("10.1.0.11:80", client)
            ipvs.receive(Packet.tcp(*ends, flags))
        if number % 10 == 1:
            ipvs.receive(Packet.tcp(client, "192.0.2.1:80", "R"))
        ipvs.clock.advance(seconds=6)
    for port in (50000, 50001, 50002):
        for flags in "SAR":
            ipvs.receive(Packet.tcp(f"203.0.113.7:{port}", "192.0.2.1:80", flags))
        ipvs.clock.advance(seconds=2)
    return ipvs


def buckets() -> str:
    """The wheel of a live IPVS: a row of 64 buckets for each level, the entries in them."""
    ipvs = busy()
    left, top, row = 74, 64, 48
    filled: dict[Bucket, list[Conn]] = {}
    for timer in ipvs.clock.pending_timers():
        if isinstance(timer, Conn) and timer.bucket is not None:
            filled.setdefault(timer.bucket, []).append(timer)
    parts = [text(14, 24, f"{sum(map(len, filled.values()))} entries in the buckets of the wheel", size=15, bold=True)]
    parts += [text(left, 46, "the grey bucket is the present one", size=12, colour=GREY)]
    for level in range(5):
        y = top + row * level
        parts += [text(14, y + 14, f"level {level}", bold=True), text(14, y + 30, f"{lvl_gran(level) / HZ:g} s", size=12, colour=GREY)]
        present = (ipvs.clock.now >> 3 * level) % LVL_SIZE
        parts.append(f'<rect x="{left}" y="{y}" width="{CELL * LVL_SIZE}" height="20" fill="{PALE_GREY}"/>')
        parts.append(f'<rect x="{left + CELL * present}" y="{y}" width="{CELL}" height="20" fill="#8b949e"/>')
        for bucket, entries in filled.items():
            if bucket.level == level:
                parts += _filled(left + CELL * (bucket.index % LVL_SIZE), y, len(entries))
        parts.append(f'<path d="{"".join(f"M{left + CELL * n} {y}v20" for n in range(LVL_SIZE + 1))}" stroke="#d0d7de"/>')
    y = top + row * 5 + 12
    for bucket, entries in sorted(filled.items(), key=lambda item: item[0].tick)[:3] + sorted(filled.items(), key=lambda item: item[0].tick)[-3:]:
        states = ", ".join(sorted({cp.state_name for cp in entries}))
        late = [(bucket.tick - cp.expires) / HZ for cp in entries]
        place = f"level {bucket.level}, bucket {bucket.index % LVL_SIZE}"
        until = f"fires in {(bucket.tick - ipvs.clock.now) / HZ:.1f} s"
        count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
        span = " to ".join(sorted({f"{min(late):.1f}", f"{max(late):.1f}"}))
        parts.append(text(14, y, f"{place}: {count} ({states}), {until}, {span} s late", size=12, colour=INK))
        y += 20
    return svg(left + CELL * LVL_SIZE + 16, y, parts, "buckets of the timer wheel with the entries of a live director in them")


def _filled(x: int, y: int, count: int) -> list[str]:
    colour = ORANGE if count > 4 else BLUE if count > 1 else GREEN
    return [f'<rect x="{x}" y="{y}" width="{CELL}" height="20" fill="{colour}"/>', text(x + CELL / 2, y + 33, count, size=11, colour=colour, anchor="middle")]
