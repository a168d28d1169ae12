"""IPv4 options: what a host writes into those of a packet that arrives or goes on, what it refuses, and what its answers carry.

Record route and timestamp are filled in (times are 0: a model has no wall clock), CIPSO is refused for want of a domain of interpretation.

source: ip_options.c, __ip_options_compile, ip_forward_options, __ip_options_echo, ip_options_build; ip_input.c, ip_rcv_options
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ipvs_model.flags import AF_INET
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.patch import set_header

IPOPT_END: Final = 0
IPOPT_NOOP: Final = 1
IPOPT_RR: Final = 7
IPOPT_TIMESTAMP: Final = 68
IPOPT_LSRR: Final = 131
IPOPT_CIPSO: Final = 134
IPOPT_SSRR: Final = 137
IPOPT_RA: Final = 148

# how a timestamp option is to be filled in: with times; with addresses and times; with times behind the addresses it states
IPOPT_TS_TSONLY: Final = 0
IPOPT_TS_TSANDADDR: Final = 1
IPOPT_TS_PRESPEC: Final = 3

SHORTEST: Final = {IPOPT_RR: 3, IPOPT_LSRR: 3, IPOPT_SSRR: 3, IPOPT_TIMESTAMP: 4, IPOPT_RA: 4}
FIRST_POINTER: Final = {IPOPT_RR: 4, IPOPT_LSRR: 4, IPOPT_SSRR: 4, IPOPT_TIMESTAMP: 5}
#: both source routes count as one
ONCE: Final = {IPOPT_RR: IPOPT_RR, IPOPT_TIMESTAMP: IPOPT_TIMESTAMP, IPOPT_CIPSO: IPOPT_CIPSO, IPOPT_LSRR: IPOPT_LSRR, IPOPT_SSRR: IPOPT_LSRR}

IsLocal = Callable[[int], bool]


class Arrived(NamedTuple):
    """What a host makes of the options of a packet."""

    packet: Packet  #: with what the host wrote; the header checksum is left as it was
    pointer: int = 0  #: offset of a byte that is wrong: the packet is dropped, and its sender told; 0: none is
    answer: bytes | None = b""  #: the options of that error; None: it cannot be made
    source_routed: bool = False
    recorded: int = 0  #: offset of the address that was recorded; 0: none was


class _Wrong(Exception):
    """The byte at this offset is wrong."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


def arrive(p: Packet, own: int, is_local: IsLocal) -> Arrived:
    """A host reads the options of an IPv4 packet; ``own`` is its address towards the sender, ``is_local`` knows the addresses that are its own.

    >>> sent = Packet.ip("203.0.113.5", "192.0.2.1", 17, bytes(8), options=bytes((7, 7, 4, 0, 0, 0, 0)))
    >>> arrive(sent, 0xC0000201, lambda addr: False).packet.raw[20:28].hex(" ")
    '07 07 08 c0 00 02 01 00'
    """
    raw = p.raw
    header = bytearray(raw[: p.l4])
    noted: dict[int, int] = {}
    try:
        for at, size in _walk(header):
            _read(header, at, size, noted, own, is_local)
    except _Wrong as wrong:
        return Arrived(_with_header(p, header), wrong.offset, _answer(header, noted, own, is_local))
    route = noted.get(IPOPT_RR, 0)
    recorded = route + raw[route + 2] - 1 if route and header[route + 2] != raw[route + 2] else 0
    return Arrived(_with_header(p, header), source_routed=IPOPT_LSRR in noted, recorded=recorded)


def go_on(p: Packet, recorded: int, own: int) -> Packet:
    """A packet is forwarded: the address recorded at that offset becomes the host's on the way out, and the header checksum right."""
    buffer = bytearray(p.raw)
    buffer[recorded : recorded + 4] = own.to_bytes(4, "big")
    set_header(buffer, p.af, p.saddr, p.daddr, p.ttl)
    return p.with_raw(bytes(buffer))


def echo(p: Packet, own: int, is_local: IsLocal = lambda addr: False) -> bytes | None:
    """The options of an answer to a packet that has arrived, sent from ``own``; None: such an answer cannot be made."""
    if p.af != AF_INET or p.l4 <= 20:
        return b""
    header = bytearray(p.raw[: p.l4])
    noted: dict[int, int] = {}
    try:
        for at, size in _walk(header):
            _check(header, at, size)
            noted.setdefault(header[at], at)
    except _Wrong:
        pass  # its host would have dropped it: what stands before that
    return _answer(header, noted, own, is_local)


def _walk(header: bytearray) -> Iterator[tuple[int, int]]:
    """Offset and size of each option; what lies behind an END becomes END too. Raises _Wrong at an impossible size."""
    at = 20
    while at < len(header):
        if header[at] == IPOPT_END:
            header[at:] = bytes(len(header) - at)
            return
        if header[at] == IPOPT_NOOP:
            at += 1
            continue
        size = header[at + 1] if at + 1 < len(header) else 0
        if size < 2 or at + size > len(header):
            raise _Wrong(at)
        yield at, size
        at += size


def _read(header: bytearray, at: int, size: int, noted: dict[int, int], own: int, is_local: IsLocal) -> None:
    """Check an option, fill it in and note where it stands. Raises _Wrong."""
    kind = header[at]
    once = ONCE.get(kind)
    if once in noted and once != IPOPT_LSRR:
        raise _Wrong(at)
    _check(header, at, size)
    if once in noted:
        raise _Wrong(at)
    option = header[at : at + size]
    if kind == IPOPT_RR and not _record(option, own):
        raise _Wrong(at + 2)
    if kind == IPOPT_TIMESTAMP:
        if option[2] > size:
            _overflow(option, at)
        elif not _stamp(option, own, is_local):
            raise _Wrong(at + 2)
    header[at : at + size] = option
    if once is not None:
        noted[once] = at
    if kind == IPOPT_CIPSO:
        raise _Wrong(at + (1 if size < 8 else 2))


def _check(header: bytearray, at: int, size: int) -> None:
    """Raises _Wrong for an option that is too short, or whose pointer points before its data."""
    kind = header[at]
    if size < SHORTEST.get(kind, 2):
        raise _Wrong(at + 1)
    if kind in FIRST_POINTER and header[at + 2] < FIRST_POINTER[kind]:
        raise _Wrong(at + 2)


def _record(option: bytearray, own: int) -> bool:
    """Write an address into a record-route option if it is not full; False: what is left is too short for one."""
    pointer, size = option[2], len(option)
    if pointer > size:
        return True
    if pointer + 3 > size:
        return False
    option[pointer - 1 : pointer + 3] = own.to_bytes(4, "big")
    option[2] += 4
    return True


def _stamp(option: bytearray, own: int, is_local: IsLocal) -> bool:
    """Fill in a timestamp option that is not full; False: what is left is too short."""
    pointer, how = option[2], option[3] & 15
    room = len(option) - pointer + 1
    if room < (8 if how in (IPOPT_TS_TSANDADDR, IPOPT_TS_PRESPEC) else 4):
        return False
    place = slice(pointer - 1, pointer + 3)
    if how == IPOPT_TS_TSANDADDR:
        option[place] = own.to_bytes(4, "big")
    if how == IPOPT_TS_TSONLY:
        option[place] = bytes(4)
        option[2] += 4
    elif how == IPOPT_TS_TSANDADDR or (how == IPOPT_TS_PRESPEC and is_local(int.from_bytes(option[place], "big"))):
        option[pointer + 3 : pointer + 7] = bytes(4)
        option[2] += 8
    return True


def _overflow(option: bytearray, at: int) -> None:
    """A full timestamp option counts the hosts that found no room."""
    if option[3] & 15 != IPOPT_TS_PRESPEC:
        if option[3] >> 4 == 15:
            raise _Wrong(at + 3)
        option[3] += 16


def _answer(header: bytearray, noted: dict[int, int], own: int, is_local: IsLocal) -> bytes | None:
    """Record route, timestamp and CIPSO for an answer, the first two filled in once more."""
    out = b""
    for kind in (IPOPT_RR, IPOPT_TIMESTAMP, IPOPT_CIPSO):
        at = noted.get(kind)
        if at is None:
            continue
        option = header[at : at + header[at + 1]]
        if kind == IPOPT_RR and not _record(option, own):
            return None
        if kind == IPOPT_TIMESTAMP and option[2] <= len(option) and not _stamp(option, own, is_local) and not _next_is_stated(option):
            return None
        out += option
    return out + bytes(-len(out) % 4)


def _next_is_stated(option: bytearray) -> bool:
    """The next entry of a timestamp option begins with an address that fits, though its time does not."""
    return option[3] & 15 == IPOPT_TS_PRESPEC and option[2] + 3 <= len(option)


def _with_header(p: Packet, header: bytearray) -> Packet:
    raw = p.raw
    changed = bytes(header) + raw[p.l4 :]
    return p if changed == raw else p.with_raw(changed)
