"""ICMP and ICMPv6 errors that a host sends about a packet."""

from __future__ import annotations

from typing import Final

from ipvs_model.flags import AF_INET, IPPROTO_ICMP, IPPROTO_ICMPV6, PKT_NO_ROUTE, PKT_NOT_TO_HOST
from ipvs_model.packet.build import icmp_message, icmpv6_message, ip_packet
from ipvs_model.packet.options import echo
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.rewrite import complete, is_later_fragment

ICMP_DEST_UNREACH: Final = 3
ICMP_SOURCE_QUENCH: Final = 4
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_HOST_UNREACH: Final = 1
ICMP_PROT_UNREACH: Final = 2
ICMP_PORT_UNREACH: Final = 3
ICMP_FRAG_NEEDED: Final = 4
ICMP_EXC_FRAGTIME: Final = 1
ICMPV6_DEST_UNREACH: Final = 1
ICMPV6_PKT_TOOBIG: Final = 2
ICMPV6_TIME_EXCEED: Final = 3
ICMPV6_PARAMPROB: Final = 4
ICMPV6_ADDR_UNREACH: Final = 3
ICMPV6_PORT_UNREACH: Final = 4
ICMPV6_HDR_FIELD: Final = 0
ICMPV6_UNK_NEXTHDR: Final = 1
ICMPV6_UNK_OPTION: Final = 2
ICMPV6_HDR_INCOMP: Final = 3

#: ICMP types about which errors may be sent: echo reply, echo, timestamp to address mask reply (source: icmp.c, icmp_pointers)
ICMP_INFORMATIONAL: Final = frozenset((0, 8, 13, 14, 15, 16, 17, 18))
IPV4_LIMIT: Final = 576  #: longest IPv4 error
IPV6_LIMIT: Final = 1280  #: longest IPv6 error


def icmp_error(
    p: Packet,
    type: int,
    code: int,
    info: int = 0,
    *,
    saddr: int,
    ident: int = 0,
    mtu: int = 1500,
    ttl: int = 64,
    flow_label: int = 0,
    options: bytes | None = None,
) -> Packet | None:
    """The ICMP (ICMPv6 for an IPv6 packet) error about `p`, from `saddr` to its sender; None if a host keeps silent about such a packet.

    `info` is the second 32-bit word of the ICMP header (for 3/4 and 2/0 the MTU), `mtu` that of the way back, `ident` the IPv4 id and
    `flow_label` the IPv6 flow label, both of the host's choice; `options` are IPv4 options other than those that echo the packet's. The error is locally made: device None, mark 0. Whether the route is broadcast, whether the source address
    exists and rate limits are the caller's. Source: icmp.c, icmp_send; icmp6.c, icmp6_send.
    """
    if (p.bits & PKT_NO_ROUTE and p.af == AF_INET) or is_error(p):
        return None
    rest = info.to_bytes(4, "big")
    quotable = complete(p)
    if p.af == AF_INET:
        if p.length < 20 or p.bits & PKT_NOT_TO_HOST or is_later_fragment(p):
            return None
        if options is None:
            options = echo(p, saddr)
        if options is None:
            return None
        message = icmp_message(type, code, rest, quotable.raw[: min(mtu, IPV4_LIMIT) - 28 - len(options)])
        return Packet.parse(ip_packet(AF_INET, IPPROTO_ICMP, saddr, p.saddr, message, ttl=ttl, tos=p.tos & 0x1E | 0xC0, ident=ident, options=options))
    multicast = p.daddr >> 120 == 0xFF
    if p.length < 40 or not p.saddr or p.saddr >> 120 == 0xFF or ((multicast or p.bits & PKT_NOT_TO_HOST) and type != ICMPV6_PKT_TOOBIG):
        return None
    message = icmpv6_message(saddr, p.saddr, type, code, rest, quotable.raw[: IPV6_LIMIT - 48])
    raw = ip_packet(p.af, IPPROTO_ICMPV6, saddr, p.saddr, message, ttl=ttl)
    return Packet.parse(raw[:1] + flow_label.to_bytes(3, "big") + raw[4:])


def is_error(p: Packet) -> bool:
    """An ICMP or ICMPv6 error, about which no error may be sent; an ICMP packet whose type is missing counts as one."""
    if p.proto == IPPROTO_ICMP and p.af == AF_INET:
        return p.l4_len < 1 or p.raw[p.l4] not in ICMP_INFORMATIONAL
    if p.proto == IPPROTO_ICMPV6 and p.af != AF_INET:
        return p.l4_len < 1 or p.raw[p.l4] < 128
    return False
