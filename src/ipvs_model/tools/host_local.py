"""The local stack of a host on which nothing listens: what it answers to packets that were delivered to it.

source: net/ipv4/ip_input.c, ip_protocol_deliver_rcu; net/ipv6/ip6_input.c, ip6_protocol_deliver_rcu; net/ipv4/tcp_ipv4.c, udp.c, icmp.c and their IPv6 sisters
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from ipvs_model.flags import AF_INET, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, PKT_NOT_TO_HOST
from ipvs_model.packet import Packet
from ipvs_model.packet.icmp_error import ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMP_PROT_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH
from ipvs_model.packet.local import echo_reply, port_unreachable, tcp_reset
from ipvs_model.packet.parse import NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_NONE, NEXTHDR_ROUTING
from ipvs_model.tools.host_output import Origin

IPPROTO_IGMP: Final = 2
IPPROTO_PIM: Final = 103
#: IPv4 protocols that the stack takes without a word
SILENT: Final = frozenset((IPPROTO_IGMP, IPPROTO_PIM))
#: IPv6 headers that it walks over
WALKED: Final = frozenset((NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT, NEXTHDR_DEST))

ICMPV6_PARAMPROB: Final = 4
ICMPV6_UNK_NEXTHDR: Final = 1

ANSWERED: Final[dict[int, tuple[Callable[[Packet], Packet | None], Origin]]] = {
    IPPROTO_TCP: (tcp_reset, Origin.RESET),
    IPPROTO_ICMP: (echo_reply, Origin.ICMP),
    IPPROTO_ICMPV6: (echo_reply, Origin.ICMP),
}


@frozen
class Refusal:
    """The stack refuses a packet with an ICMP (ICMPv6) error of this type and code; ``info`` is the second word of its header."""

    type: int
    code: int
    info: int = 0


def answer(packet: Packet) -> tuple[Packet, Origin] | Refusal | None:
    """A packet in answer to a delivered one, a refusal, or nothing."""
    if packet.bits & PKT_NOT_TO_HOST:
        return None
    protocol, pointer = (packet.proto, 0) if packet.af == AF_INET else next_header(packet.raw)
    if protocol in (NEXTHDR_NONE, -1) and packet.af != AF_INET:
        return None
    if protocol == IPPROTO_UDP:
        if port_unreachable(packet) is None:
            return None
        return Refusal(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH) if packet.af == AF_INET else Refusal(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH)
    if protocol == (IPPROTO_ICMPV6 if packet.af == AF_INET else IPPROTO_ICMP) or protocol not in ANSWERED:
        return unknown_protocol(packet, protocol, pointer)
    make, origin = ANSWERED[protocol]
    made = make(packet)
    return None if made is None else (made, origin)


def unknown_protocol(packet: Packet, protocol: int, pointer: int) -> Refusal | None:
    """The refusal of a protocol that the stack does not have; over IPv6 it points at the byte that names it."""
    if packet.af == AF_INET:
        return None if protocol in SILENT else Refusal(ICMP_DEST_UNREACH, ICMP_PROT_UNREACH)
    return Refusal(ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, pointer)


def next_header(raw: bytes) -> tuple[int, int]:
    """Of an IPv6 packet: the first header that the stack does not walk over (-1: the packet ends before it), and where the byte is that names it.

    >>> next_header(bytes.fromhex("6000000000083c40") + bytes(32) + bytes.fromhex("8400000000000000"))
    (132, 40)
    """
    at, end = 6, 40
    while raw[at] in WALKED:
        if len(raw) < end + 8:
            return -1, at
        at, end = end, end + (8 if raw[at] == NEXTHDR_FRAGMENT else (raw[end + 1] + 1) << 3)
    return raw[at], at
