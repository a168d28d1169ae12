"""From the bytes of an IP packet to the fields that IPVS looks at. Nothing here raises: what is damaged is described as what it is."""

from __future__ import annotations

from errno import EBADMSG, ENOENT
from struct import Struct
from typing import Final, NamedTuple

from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_AH, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.checksum import csum16

NEXTHDR_HOP: Final = 0
NEXTHDR_ROUTING: Final = 43
NEXTHDR_FRAGMENT: Final = 44
NEXTHDR_NONE: Final = 59
NEXTHDR_DEST: Final = 60
#: header types that the walk over an IPv6 packet steps across (source: exthdrs_core.c, ipv6_ext_hdr)
IPV6_EXTENSIONS: Final = frozenset((NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT, IPPROTO_AH, NEXTHDR_NONE, NEXTHDR_DEST))
PORT_PROTOCOLS: Final = frozenset((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP))

IP_DF: Final = 0x4000
IP_MF: Final = 0x2000
IP_OFFSET: Final = 0x1FFF
TCP_FLAG_BITS: Final = 0x17  #: F 1, S 2, R 4, A 16: the bits that the state machine looks at

#: first bytes of an IPv4 packet without options: version and header length, total length, fragment word, TTL, protocol, addresses, ports
IPV4_PORTS: Final = Struct("!BxHxxHBBxxIIHH")
#: Ethernet, IPv4 and TCP headers: EtherType, then the same with TOS, identification, sequence numbers and flags byte
FRAME_TCP: Final = Struct("!12xHBBHHHBBxxIIHHIIxB6x")

_IPV4: Final = Struct("!BxHxxHBBxxII")
_IPV6: Final = Struct("!4xHBB16s16s")
_PORTS: Final = Struct("!HH")


class Chain(NamedTuple):
    """Where the walk over IPv6 extension headers ended."""

    protocol: int  #: first header type that is no extension header; a negative errno if the chain is broken
    offset: int  #: of that header (of the data, in a later fragment)
    fragoffs: int  #: bytes before this fragment's data; 0 unless it is a later fragment
    frag: bool  #: a fragment header was met


class Fields(NamedTuple):
    """What the general parser finds in a packet; the members are those of `Packet`."""

    raw: bytes
    af: int
    proto: int
    src: int
    dst: int
    flags: int
    ttl: int
    l4: int
    df: bool
    plain: bool
    has_ports: bool
    frag: bool
    fragoffs: int
    truncated: bool


def ipv6_find_hdr(raw: bytes, offset: int) -> Chain:
    """Walk the extension headers of the IPv6 header at `offset` (source: exthdrs_core.c, ipv6_find_hdr with no target).

    A truncated chain, or a later fragment that begins with an extension header, gives a negative protocol.
    """
    if len(raw) < offset + 40:
        return Chain(-EBADMSG, offset, 0, False)
    nexthdr = raw[offset + 6]
    start = offset + 40
    frag = False
    while nexthdr in IPV6_EXTENSIONS and nexthdr != NEXTHDR_NONE:
        if len(raw) < start + 2:
            return Chain(-EBADMSG, start, 0, frag)
        following = raw[start]
        if nexthdr == NEXTHDR_FRAGMENT:
            frag = True
            if len(raw) < start + 4:
                return Chain(-EBADMSG, start, 0, True)
            fragoffs = (raw[start + 2] << 8 | raw[start + 3]) & 0xFFF8
            if fragoffs:
                inside = following not in IPV6_EXTENSIONS or following == NEXTHDR_NONE
                return Chain(following if inside else -ENOENT, start + 8, fragoffs, True)
        start += extension_size(nexthdr, raw, start)
        nexthdr = following
    return Chain(nexthdr, start, 0, frag)


def extension_size(kind: int, raw: bytes, start: int) -> int:
    """Bytes of the IPv6 extension header of that kind at `start`, whose first two bytes must be there."""
    if kind == NEXTHDR_FRAGMENT:
        return 8
    if kind == IPPROTO_AH:
        return (raw[start + 1] + 2) << 2
    return (raw[start + 1] + 1) << 3


def next_header_at(raw: bytes) -> int:
    """Where the byte stands that names the transport protocol of a sound IPv6 packet (what "unrecognized next header" points at)."""
    at, start = 6, 40
    while raw[at] in IPV6_EXTENSIONS and raw[at] != NEXTHDR_NONE and len(raw) >= start + 2:
        at, start = start, start + extension_size(raw[at], raw, start)
    return at


def _transport(raw: bytes, l4: int, proto: int, later: bool) -> tuple[int, int, int, bool, bool]:
    """Ports, TCP flags, "has ports", "has the fixed TCP or UDP header" of the transport header at l4."""
    room = len(raw) - l4
    if later or proto not in PORT_PROTOCOLS or room < 4:
        return 0, 0, -1, False, False
    sport, dport = _PORTS.unpack_from(raw, l4)
    if proto == IPPROTO_TCP and room >= 20:
        return sport, dport, raw[l4 + 13] & TCP_FLAG_BITS, True, True
    return sport, dport, -1, True, proto == IPPROTO_UDP and room >= 8


def _parse_ipv4(raw: bytes) -> Fields:
    if len(raw) < 20:
        return Fields(raw, AF_INET, -EBADMSG, 0, 0, -1, raw[8] if len(raw) > 8 else 0, len(raw), False, False, False, False, 0, True)
    vihl, total, word, ttl, proto, saddr, daddr = _IPV4.unpack_from(raw)
    l4 = (vihl & 15) << 2
    sound = vihl >> 4 == 4 and l4 >= 20 and total >= l4
    if sound and total < len(raw):  # padding of the link layer
        raw = raw[:total]
    truncated = len(raw) < total or len(raw) < l4
    sport, dport, flags, has_ports, complete = _transport(raw, l4, proto, word & IP_OFFSET != 0)
    frag = word & (IP_MF | IP_OFFSET) != 0
    plain = complete and sound and not frag and not truncated
    return Fields(
        raw, AF_INET, proto, saddr << 16 | sport, daddr << 16 | dport, flags, ttl, l4, word & IP_DF != 0, plain, has_ports, frag, 0, truncated
    )


def _parse_ipv6(raw: bytes) -> Fields:
    if len(raw) < 40:
        return Fields(raw, AF_INET6, -EBADMSG, 0, 0, -1, raw[7] if len(raw) > 7 else 0, len(raw), False, False, False, False, 0, True)
    payload, nexthdr, ttl, source, destination = _IPV6.unpack_from(raw)
    if 40 + payload < len(raw) and (payload or (nexthdr != NEXTHDR_HOP and len(raw) <= 40 + 0xFFFF)):
        raw = raw[: 40 + payload]
    truncated = len(raw) < 40 + payload
    proto, l4, fragoffs, frag = ipv6_find_hdr(raw, 0)
    sport, dport, flags, has_ports, complete = _transport(raw, l4, proto, fragoffs != 0)
    src = int.from_bytes(source, "big") << 16 | sport
    dst = int.from_bytes(destination, "big") << 16 | dport
    plain = complete and not frag and not truncated
    return Fields(raw, AF_INET6, proto, src, dst, flags, ttl, l4, False, plain, has_ports, frag, fragoffs, truncated)


def parse_fields(raw: bytes) -> Fields:
    """Fields of any bytes. Version 6 is read as IPv6, everything else as IPv4.

    Bytes behind the length that the header states are cut off, as a host does on reception (source: ip_input.c, ip_rcv_core).
    """
    if raw and raw[0] >> 4 == 6:
        return _parse_ipv6(raw)
    return _parse_ipv4(raw)


def header_error(raw: bytes) -> str | None:
    """Why a receiving host drops these bytes before any hook, or None if it takes them (source: ip_input.c, ip_rcv_core; ip6_input.c, ip6_rcv_core).

    >>> header_error(bytes.fromhex("450000280001400040063cc9cb007105c0000201") + bytes(20))
    'header checksum'
    """
    if raw and raw[0] >> 4 == 6:
        if len(raw) < 40:
            return "header incomplete"
        payload = raw[4] << 8 | raw[5]
        if 40 + payload > len(raw):
            return "truncated"
        return None
    if len(raw) < 20:
        return "header incomplete"
    ihl = (raw[0] & 15) << 2
    if raw[0] >> 4 != 4 or ihl < 20:
        return "version or header length"
    if len(raw) < ihl:
        return "header incomplete"
    if csum16(raw[:ihl]):
        return "header checksum"
    total = raw[2] << 8 | raw[3]
    if total > len(raw):
        return "truncated"
    return "total length" if total < ihl else None
