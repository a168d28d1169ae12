"""IPv6 extension headers as a host reads them: hop-by-hop options as a packet arrives, the others as it is delivered.

Left out: segment routing, RPL, mobility and home addresses (all off by default: dropped), CALIPSO and IOAM options (skipped).

source: exthdrs.c, ip6_parse_tlv, ip6_tlvopt_unknown, ipv6_rthdr_rcv, ipv6_destopt_rcv; ip6_input.c, ip6_protocol_deliver_rcu
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ipvs_model.flags import IPPROTO_AH
from ipvs_model.packet.icmp_error import ICMPV6_HDR_FIELD, ICMPV6_UNK_NEXTHDR, ICMPV6_UNK_OPTION
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING, extension_size

IPV6_TLV_PAD1: Final = 0
IPV6_TLV_PADN: Final = 1
IPV6_TLV_ROUTERALERT: Final = 5
IPV6_TLV_CALIPSO: Final = 7
IPV6_TLV_IOAM: Final = 49
IPV6_TLV_JUMBO: Final = 194
IPV6_TLV_HAO: Final = 201

MOST_OPTIONS: Final = 8  #: net.ipv6.max_hbh_opts_number, net.ipv6.max_dst_opts_number
MOST_PADDING: Final = 7
ROUTING_SWITCHED_OFF: Final = frozenset((2, 3, 4))  #: types: home address, RPL, segment routing


class Refused(NamedTuple):
    """Why a packet is dropped: code and pointer of the ICMPv6 "parameter problem" that tells its sender; a negative code: nobody is told."""

    code: int
    pointer: int = 0


SILENTLY: Final = Refused(-1)


def refused_on_arrival(p: Packet) -> Refused | None:
    """What is wrong with the hop-by-hop options of an IPv6 packet; every host on its way asks."""
    raw = p.raw
    return _options(raw, 40) if raw[6] == NEXTHDR_HOP else None


def refused_on_delivery(p: Packet) -> Refused | None:
    """What is wrong with the extension headers of an IPv6 packet that has reached its host, fragments put together."""
    raw = p.raw
    at, start = 6, 40
    while True:
        kind = raw[at]
        if kind == IPPROTO_AH or (kind == NEXTHDR_HOP and at != 6):
            return Refused(ICMPV6_UNK_NEXTHDR, at)
        if kind not in (NEXTHDR_HOP, NEXTHDR_DEST, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT):
            return None
        if len(raw) < start + 8:
            return Refused(ICMPV6_HDR_FIELD, start) if kind == NEXTHDR_FRAGMENT else SILENTLY
        refused = None
        if kind == NEXTHDR_DEST:
            refused = _options(raw, start)
        elif kind == NEXTHDR_ROUTING:
            refused = _routing(raw, start)
        if refused is not None:
            return refused
        at, start = start, start + extension_size(kind, raw, start)


def _routing(raw: bytes, start: int) -> Refused | None:
    kind, left = raw[start + 2], raw[start + 3]
    if kind in ROUTING_SWITCHED_OFF or len(raw) < start + extension_size(NEXTHDR_ROUTING, raw, start):
        return SILENTLY
    return Refused(ICMPV6_HDR_FIELD, start + 2) if left else None


def _options(raw: bytes, start: int) -> Refused | None:
    """Options of a header that begins there: hop-by-hop if it is the first, else for the destination."""
    hop = start == 40 and raw[6] == NEXTHDR_HOP
    at, end = start + 2, start + extension_size(NEXTHDR_DEST, raw, start) if len(raw) >= start + 2 else start + 8
    if len(raw) < end:
        return SILENTLY
    padding = count = 0
    while at < end:
        kind = raw[at]
        size = 1 if kind == IPV6_TLV_PAD1 else 2 + raw[at + 1] if at + 1 < end else end
        if at + size > end:
            return SILENTLY
        if kind in (IPV6_TLV_PAD1, IPV6_TLV_PADN):
            padding += size
            if padding > MOST_PADDING or any(raw[at + 2 : at + size]):
                return SILENTLY
        else:
            padding = 0
            count += 1
            if count > MOST_OPTIONS:
                return SILENTLY
            refused = _option(raw, at, hop)
            if refused is not None:
                return refused
        at += size
    return None


def _option(raw: bytes, at: int, hop: bool) -> Refused | None:
    kind, length = raw[at], raw[at + 1]
    if hop:
        if kind == IPV6_TLV_ROUTERALERT:
            return None if length == 2 else SILENTLY
        if kind == IPV6_TLV_JUMBO:  # nothing that is longer than its header says comes this far
            if length != 4 or at & 3 != 2:
                return SILENTLY
            return Refused(ICMPV6_HDR_FIELD, at + 2 if int.from_bytes(raw[at + 2 : at + 6]) <= 0xFFFF else at)
        if kind in (IPV6_TLV_CALIPSO, IPV6_TLV_IOAM):
            return None
    elif kind == IPV6_TLV_HAO:
        return SILENTLY
    action = kind >> 6
    if action == 0:
        return None
    if action == 1 or (action == 3 and raw[24] == 0xFF):
        return SILENTLY
    return Refused(ICMPV6_UNK_OPTION, at)
