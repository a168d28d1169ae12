"""Reassembly of IPv4 and IPv6 fragments, for hosts and hooks that want whole packets."""

from __future__ import annotations

from typing import Final

from ipvs_model.flags import AF_INET
from ipvs_model.packet.checksum import csum16
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import IP_DF, IP_MF, IP_OFFSET, NEXTHDR_FRAGMENT, extension_size

ECN_NOT_ECT: Final = 0
ECN_CE: Final = 3


class _Fragment:
    """One fragment: where its data belongs, the data, the packet, what its header said."""

    __slots__ = ("at", "data", "df", "end", "header", "more", "next_header", "packet")

    def __init__(self, packet: Packet, header: bytes, at: int, data: bytes, more: bool, df: bool, next_header: int) -> None:
        self.packet = packet
        self.header = header  #: what the whole packet will begin with, if this is the first fragment
        self.at = at
        self.data = data
        self.end = at + len(data)
        self.more = more
        self.df = df
        self.next_header = next_header


class _Queue:
    """The fragments of one datagram so far."""

    __slots__ = ("deadline", "ecn", "last", "length", "max_df_size", "max_size", "parts", "runs")

    def __init__(self, deadline: int) -> None:
        self.deadline = deadline
        self.parts: list[_Fragment] = []
        self.runs: list[list[int]] = []  #: [begin, end] of data that arrived in one go, sorted
        self.length = 0
        self.last = False
        self.max_size = 0
        self.max_df_size = 0
        self.ecn = 0  #: bit n: a fragment with ECN field n was seen


class Reassembler:
    """Puts fragments together; one for each use that the host keeps apart (local delivery, each IPVS hook, IPv6 defragmentation).

    `timeout` is in the unit of the `now` arguments: Linux waits 30 s for IPv4 and 60 s for IPv6, counted from the first fragment that arrived.
    Source: ip_fragment.c, ip_frag_queue; nf_conntrack_reasm.c, nf_ct_frag6_queue; inet_fragment.c, inet_frag_queue_insert.

    >>> from ipvs_model.packet.fragment import fragment
    >>> whole = Packet.udp("203.0.113.5:1", "192.0.2.1:2", bytes(100))
    >>> [r.add(f) for r in [Reassembler()] for f in fragment(whole, 76)][-1].length
    128
    """

    def __init__(self, timeout: int = 0) -> None:
        self.timeout = timeout
        self._queues: dict[tuple[int, ...], _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, p: Packet, now: int = 0) -> Packet | None:
        """The whole packet once its last missing fragment came, None while it is incomplete or if the fragment is refused; a packet that is none as it is.

        The whole packet has the header fields, mark and device of the first fragment; frag_max_size and pieces say how it came. IPv4: it has DF if all of the
        largest fragments had it. Fragments that overlap, disagree about the length or mix ECN with not-ECN end the whole datagram.
        """
        part = _ipv4_part(p) if p.af == AF_INET else _ipv6_part(p)
        if part is None:
            return None if p.frag else p
        key = _key(p, part)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(now + self.timeout)
        if not _insert(queue, part):
            del self._queues[key]
            return None
        if not queue.last or queue.parts[0].at != 0 or sum(len(each.data) for each in queue.parts) != queue.length:
            return None
        del self._queues[key]
        return _whole(queue)

    def expire(self, now: int) -> list[Packet]:
        """Forget the datagrams whose time is over; return the first fragment of each that has one (about it, a host sends "reassembly time exceeded")."""
        gone = [key for key, queue in self._queues.items() if queue.deadline <= now]
        parts = [self._queues.pop(key).parts for key in gone]
        return [each[0].packet for each in parts if each and each[0].at == 0]

    def next_deadline(self) -> int | None:
        """The time at which the next datagram is forgotten, None if none waits."""
        return min((queue.deadline for queue in self._queues.values()), default=None)


def _ipv4_part(p: Packet) -> _Fragment | None:
    if not p.frag or not 20 <= p.l4 <= p.length:
        return None
    raw = p.raw
    word = int.from_bytes(raw[6:8], "big")
    data = raw[p.l4 :]
    more = word & IP_MF != 0
    if more:
        data = data[: len(data) & ~7]
    return _Fragment(p, raw[: p.l4], (word & IP_OFFSET) << 3, data, more, word & IP_DF != 0, raw[9])


def _ipv6_part(p: Packet) -> _Fragment | None:
    if not p.frag:
        return None
    raw = p.raw
    at, start = 6, 40
    while raw[at] != NEXTHDR_FRAGMENT:
        at, start = start, start + extension_size(raw[at], raw, start)  # that they are there is what p.frag says
    if len(raw) < start + 8:
        return None
    header = bytearray(raw[:start])
    header[at] = raw[start]
    word = int.from_bytes(raw[start + 2 : start + 4], "big")
    data = raw[start + 8 :]
    return _Fragment(p, bytes(header), word & 0xFFF8, data, word & 1 != 0, False, raw[start])


def _key(p: Packet, part: _Fragment) -> tuple[int, ...]:
    if p.af == AF_INET:
        return p.af, p.saddr, p.daddr, p.id, part.next_header
    start = len(part.header)
    return p.af, p.saddr, p.daddr, int.from_bytes(p.raw[start + 4 : start + 8], "big")


def _insert(queue: _Queue, part: _Fragment) -> bool:
    """Put a fragment into its queue; False if the whole queue is to be thrown away."""
    if part.more:
        if len(part.data) & 7 or part.end > queue.length and queue.last:
            return False
        queue.length = max(queue.length, part.end)
    else:
        if part.end < queue.length or (queue.last and part.end != queue.length):
            return False
        queue.last = True
        queue.length = part.end
    if not part.data or len(part.header) + queue.length > 0xFFFF + (40 if part.packet.af != AF_INET else 0):
        return False
    runs = queue.runs
    if not runs or runs[-1][1] < part.end:
        if runs and part.at < runs[-1][1]:
            return False
        if runs and part.at == runs[-1][1]:
            runs[-1][1] = part.end
        else:
            runs.append([part.at, part.end])
    else:
        for begin, end in runs:
            if begin <= part.at and part.end <= end:
                return True  # a duplicate is ignored
            if part.at < end and begin < part.end:
                return False
        runs.append([part.at, part.end])
        runs.sort()
    queue.parts.append(part)
    queue.parts.sort(key=lambda each: each.at)
    queue.ecn |= 1 << (part.packet.tos & 3)
    size = len(part.header) + len(part.data) if part.packet.af == AF_INET else part.packet.length
    queue.max_size = max(queue.max_size, size)
    if part.df:
        queue.max_df_size = max(queue.max_df_size, size)
    return True


def _whole(queue: _Queue) -> Packet | None:
    mixed = queue.ecn & 1 << ECN_NOT_ECT and queue.ecn != 1 << ECN_NOT_ECT
    if mixed:
        return None
    first = queue.parts[0]
    congested = queue.ecn & 1 << ECN_CE != 0
    header = bytearray(first.header)
    data = b"".join(part.data for part in queue.parts)
    if first.packet.af == AF_INET:
        header[1] |= ECN_CE if congested else 0
        header[2:4] = (len(header) + len(data)).to_bytes(2, "big")
        header[6:8] = (IP_DF if queue.max_df_size == queue.max_size else 0).to_bytes(2, "big")
        header[10:12] = bytes(2)
        header[10:12] = csum16(bytes(header)).to_bytes(2, "big")
    else:
        header[1] |= ECN_CE << 4 if congested else 0
        header[4:6] = (len(header) - 40 + len(data)).to_bytes(2, "big")
    p = first.packet
    pieces = tuple(len(part.data) for part in queue.parts)
    return Packet.parse(bytes(header) + data, mark=p.mark, device=p.device, bits=p.bits, frag_max_size=queue.max_size, pieces=pieces)
