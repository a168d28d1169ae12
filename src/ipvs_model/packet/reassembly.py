"""Reassembly of IPv4 and IPv6 fragments, for hosts and hooks that want whole packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ipvs_model.flags import AF_INET, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.checksum import csum16
from ipvs_model.packet.icmp_error import ICMPV6_HDR_FIELD, ICMPV6_HDR_INCOMP
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import IP_DF, IP_MF, IP_OFFSET, NEXTHDR_FRAGMENT, extension_size

ECN_NOT_ECT: Final = 0
ECN_CE: Final = 3

PAYLOAD_LENGTH: Final = 4  #: its place in the IPv6 header
FRAGMENT_OFFSET: Final = 2  #: its place in the fragment header
_HEADERS: Final = {IPPROTO_TCP: 20, IPPROTO_UDP: 8, IPPROTO_ICMPV6: 8}


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

    def quotable(self) -> Packet:
        """The fragment without the bytes that made no whole unit of eight."""
        p = self.packet
        return p if p.af != AF_INET or p.length == p.l4 + len(self.data) else p.with_raw(self.header + self.data)


class Queue:
    """The fragments of one datagram so far."""

    __slots__ = ("ecn", "last", "length", "max_df_size", "max_size", "parts", "runs")

    def __init__(self) -> None:
        self.parts: list[_Fragment] = []
        self.runs: list[list[int]] = []  #: [begin, end] of data that arrived in one go, sorted
        self.length = 0
        self.last = False
        self.max_size = 0
        self.max_df_size = 0
        self.ecn = 0  #: bit n: a fragment with ECN field n was seen

    @property
    def begun(self) -> bool:
        """Its first fragment is there."""
        return bool(self.parts) and self.parts[0].at == 0

    @property
    def complete(self) -> bool:
        """Nothing is missing."""
        return self.last and self.begun and sum(len(each.data) for each in self.parts) == self.length


Key = tuple[int, ...]
#: what is to be done with an IPv6 fragment that breaks the rules: code and pointer are those of the ICMPv6 "parameter problem" that a receiver would send
Malformed = Callable[[Packet, int, int], Packet | None]


#: bytes that are free behind a first fragment of that length, in the buffer it came in
Tailroom = Callable[[int], int]


def drop(p: Packet, code: int, pointer: int) -> None:
    """Drop a malformed fragment."""


def no_room(length: int) -> int:
    """A buffer without room: every fragment stays in its own."""
    return 0


class Reassembler:
    """Puts fragments together; one for each use that the host keeps apart (local delivery, each IPVS hook, IPv6 defragmentation).

    A datagram waits for its fragments for ever; with `ipvs_model.defrag.Defragmenter` as long as in the kernel. Fragments that find room behind the first one
    are copied there: where it ended is forgotten.
    Source: ip_fragment.c, ip_frag_queue; nf_conntrack_reasm.c, nf_ct_frag6_queue; inet_fragment.c, inet_frag_queue_insert.

    >>> from ipvs_model.packet.fragment import fragment
    >>> whole = Packet.udp("203.0.113.5:1", "192.0.2.1:2", bytes(100))
    >>> [r.add(f) for r in [Reassembler()] for f in fragment(whole, 76)][-1].length
    128
    """

    def __init__(self, malformed: Malformed = drop, tailroom: Tailroom = no_room) -> None:
        self.malformed = malformed
        self.tailroom = tailroom
        self._queues: dict[Key, Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def add(self, p: Packet) -> Packet | None:
        """The whole packet once its last missing fragment came, None while it is incomplete or if the fragment is refused; a packet that is none as it is.

        The whole packet has the header fields, mark and device of the first fragment; frag_max_size and pieces say how it came. IPv4: it has DF if all of the
        largest fragments had it. Fragments that overlap or mix ECN with not-ECN end the whole datagram, over IPv4 those that disagree about its length too.
        """
        part = _ipv4_part(p) if p.af == AF_INET else _ipv6_part(p)
        if part is None:
            return None if p.frag else p
        if _lacks_header(p):
            return self.malformed(p, ICMPV6_HDR_INCOMP, 0)
        key = _key(p, part)
        queue = self._queues.get(key) or self._open(key)
        if p.af != AF_INET:
            if part.end > 0xFFFF:
                return self.malformed(p, ICMPV6_HDR_FIELD, len(part.header) + FRAGMENT_OFFSET)
            if part.more and part.end & 7:
                self._close(key)
                return self.malformed(p, ICMPV6_HDR_FIELD, PAYLOAD_LENGTH)
        if not _insert(queue, part):
            self._close(key)
        elif queue.complete:
            self._close(key)
            return _whole(queue, self.tailroom)
        return None

    def _open(self, key: Key) -> Queue:
        """The first fragment of a datagram."""
        queue = self._queues[key] = Queue()
        return queue

    def _close(self, key: Key) -> Queue:
        """Forget a datagram."""
        return self._queues.pop(key)


def is_part(p: Packet) -> bool:
    """An IPv6 packet with a sound fragment header that is not the whole datagram by itself; others go on as they are (source: reassembly.c, ipv6_frag_rcv)."""
    part = _ipv6_part(p)
    return part is not None and (part.more or part.at > 0)


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


def _lacks_header(p: Packet) -> bool:
    """A first IPv6 fragment without its whole transport header (source: ipv6_frag.h, ipv6frag_thdr_truncated)."""
    return p.af != AF_INET and p.proto >= 0 and not p.fragoffs and p.l4 + _HEADERS.get(p.proto, 1) > p.length


def _insert(queue: Queue, part: _Fragment) -> bool:
    """Put a fragment into its queue, or ignore it; False if the whole queue is to be thrown away."""
    refused = part.packet.af != AF_INET  # is only the fragment
    if part.more:
        if part.end > queue.length:
            if queue.last:
                return refused
            queue.length = part.end
    else:
        if part.end < queue.length or (queue.last and part.end != queue.length):
            return refused
        queue.last = True
        queue.length = part.end
    if not part.data:
        return refused
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


def _pieces(parts: list[_Fragment], tailroom: Tailroom) -> tuple[int, ...]:
    """Bytes of data in each buffer of a datagram (source: inet_fragment.c, inet_frag_reasm_finish; skbuff.c, skb_try_coalesce)."""
    sizes = [len(part.data) for part in parts]
    room = tailroom(len(parts[0].header) + sizes[0])
    while len(sizes) > 1 and sizes[1] <= room:
        room -= sizes[1]
        sizes[0] += sizes.pop(1)
    return tuple(sizes)


def _whole(queue: Queue, tailroom: Tailroom) -> Packet | None:
    mixed = queue.ecn & 1 << ECN_NOT_ECT and queue.ecn != 1 << ECN_NOT_ECT
    first = queue.parts[0]
    if mixed or len(first.header) + queue.length > 0xFFFF + (40 if first.packet.af != AF_INET else 0):
        return None
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
    pieces = _pieces(queue.parts, tailroom)
    return Packet.parse(bytes(header) + data, mark=p.mark, device=p.device, bits=p.bits, frag_max_size=queue.max_size, pieces=pieces)
