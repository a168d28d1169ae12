"""The packet path: headers on each leg of the three forwarding methods, and one connection under two of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from attrs import frozen
from pictures_svg import BLUE, GREEN, GREY, INK, LINE, ORANGE, PALE_BLUE, PALE_GREY, PALE_YELLOW, line, svg, text

from ipvs_model import IPVS, Packet
from ipvs_model.addresses import format_addr, format_endpoint, parse_endpoint

CLIENT: Final = "203.0.113.7:40000"
VIRTUAL: Final = "192.0.2.1:80"
METHODS: Final = (("masq", "NAT (-m)", "10.1.0.11:8080"), ("direct", "direct routing (-g)", "10.1.0.11:80"), ("tunnel", "tunnel (-i)", "10.1.0.11:80"))
HEAD: Final = 138


def director(forward: str, server: str) -> IPVS:
    ipvs = IPVS()
    ipvs.add_dest(ipvs.add_service("tcp", VIRTUAL, scheduler="rr"), server, forward=forward)
    return ipvs


@frozen
class Leg:
    """A packet on one leg of its way."""

    where: str
    packet: Packet


def legs(forward: str, server: str) -> list[Leg]:
    """A request and its answer, as they really leave a director; what passes it by leaves the server like this."""
    ipvs = director(forward, server)
    request = Packet.tcp(CLIENT, VIRTUAL, "S")
    found = [Leg("client to director", request), Leg("director to server", ipvs.receive(request).emitted[0])]
    if forward == "masq":
        answer = Packet.tcp(server, CLIENT, "SA")
        return [*found, Leg("server to director", answer), Leg("director to client", ipvs.receive(answer).emitted[0])]
    return [*found, Leg("server to client, past the director", Packet.tcp(VIRTUAL, CLIENT, "SA"))]


def headers() -> str:
    """Boxes of the headers; what the director has changed or added is coloured."""
    parts, y = [], 26
    for forward, title, server in METHODS:
        parts.append(text(14, y, title, size=15, bold=True))
        y += 12
        before: Packet | None = None
        for leg in legs(forward, server):
            changed = before if leg.where.startswith("director") else None
            parts.append(text(14, y + 16, leg.where, size=12, colour=GREY))
            parts += _header(leg.packet, changed, y + 22)
            before = leg.packet
            y += 56
        y += 24
    return svg(590, y - 14, parts, "headers of a request and its answer under NAT, direct routing and tunnel")


def _header(packet: Packet, before: Packet | None, y: int) -> list[str]:
    parts, x = [], 14
    inner = packet
    if packet.proto == 4:  # IPIP: the packet travels inside
        inner = Packet.parse(packet.raw[20:])
        outer = f"{format_addr(packet.af, packet.saddr)} to {format_addr(packet.af, packet.daddr)}"
        parts += _cell(x, y, 180, outer, True)
        x += 180
    for name, width in (("src", HEAD), ("dst", HEAD)):
        value = getattr(inner, name)
        parts += _cell(x, y, width, format_endpoint(inner.af, value), before is not None and getattr(before, name) != value)
        x += width
    if inner.dst >> 16 != parse_endpoint(CLIENT)[1]:  # what is taken off an answer's is the host's doing, outside IPVS
        parts += _cell(x, y, 60, f"ttl {inner.ttl}", before is not None and before.ttl != inner.ttl)
    return parts


def _cell(x: int, y: int, width: int, words: str, changed: bool) -> list[str]:
    fill = PALE_YELLOW if changed else PALE_GREY
    return [f'<rect x="{x}" y="{y}" width="{width}" height="26" fill="{fill}" stroke="{LINE}"/>', text(x + width / 2, y + 18, words, size=12, anchor="middle", bold=changed)]


# --- one connection, twice ----------------------------------------------------------------------------------------------

TALK: Final = (("client", "S"), ("server", "SA"), ("client", "A"), ("client", "FA"), ("server", "FA"), ("client", "A"))
LIFE: Final = (40, 150, 260)
STEP: Final = 62


def nat_direct() -> str:
    """The same packets under NAT and direct routing: who sees them, and what the director believes after each."""
    parts: list[str] = []
    for column, (forward, title, server) in enumerate(METHODS[:2]):
        parts += _column(14 + 316 * column, forward, title, server)
    return svg(640, 96 + STEP * len(TALK), parts, "one connection under NAT and under direct routing")


def _column(left: int, forward: str, title: str, server: str) -> list[str]:
    ipvs = director(forward, server)
    dest = ipvs.services[0].destinations[0]
    bottom = 76 + STEP * len(TALK)
    parts = [text(left, 24, title, size=15, bold=True)]
    for name, x in zip(("client", "director", "server"), LIFE, strict=True):
        parts.append(f'<rect x="{left + x - 36}" y="36" width="72" height="24" rx="5" fill="{PALE_BLUE}" stroke="{LINE}"/>' + text(left + x, 53, name, anchor="middle"))
        parts.append(line([(left + x, 60), (left + x, bottom)], colour=LINE))
    for number, (who, flags) in enumerate(TALK):
        y = 84 + STEP * number
        passes = who == "client" or forward == "masq"
        if passes:
            ends = (CLIENT, VIRTUAL) if who == "client" else (server, CLIENT)
            ipvs.receive(Packet.tcp(*ends, flags))
        cp = ipvs.conns()[0]
        believed = f"{cp.state_name} {cp.timeout // 250} s, {dest.activeconns}/{dest.inactconns}"
        parts += _message(left, y, who, flags, passes)
        words = believed if passes else "not seen"
        parts.append(f'<rect x="{left + LIFE[1] - 80}" y="{y + 13}" width="160" height="18" fill="#fff"/>')
        parts.append(text(left + LIFE[1], y + 26, words, size=12, colour=GREEN if passes else GREY, anchor="middle", bold=passes))
    return parts


def _message(left: int, y: int, who: str, flags: str, passes: bool) -> list[str]:
    client, director_, server = (left + x for x in LIFE)
    colour, tip = (BLUE, "blue") if who == "client" else (ORANGE, "orange")
    stops = [client, director_, server] if passes else [client, server]
    if who == "server":
        stops.reverse()
    parts = [line([(start, y), (end, y)], colour=colour, tip=tip, width=1.8, dashed=not passes) for start, end in pairwise(stops)]
    at = (stops[0] + stops[1]) / 2
    return [*parts, text(at if passes else server - 50, y - 5, flags, size=12, colour=INK, anchor="middle", bold=True)]
