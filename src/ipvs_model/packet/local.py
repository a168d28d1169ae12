"""What a host without a listener answers to packets that reach its local stack (spec/50 §13.2)."""

from __future__ import annotations

from typing import Final

from ipvs_model.flags import AF_INET, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.build import icmp_message, icmpv6_message, ip_packet, tcp_segment
from ipvs_model.packet.encap import INET_ECN_MASK
from ipvs_model.packet.icmp_error import (
    ICMP_DEST_UNREACH,
    ICMP_PORT_UNREACH,
    ICMP_PROT_UNREACH,
    ICMPV6_DEST_UNREACH,
    ICMPV6_PARAMPROB,
    ICMPV6_PORT_UNREACH,
    ICMPV6_UNK_NEXTHDR,
    icmp_error,
)
from ipvs_model.packet.options import echo
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import NEXTHDR_NONE, next_header_at
from ipvs_model.packet.rewrite import transport_csum_ok

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
ACK: Final = 16


def local_answer(p: Packet, *, ident: int = 0, saddr: int | None = None) -> Packet | None:
    """The answer of a local stack without listener: RST, echo reply, port unreachable, protocol unknown, or nothing.

    `ident` is the IPv4 id of the host's choice; `saddr` the source of ICMP errors if it is not the address asked (IPv6: a virtual address that is no
    address of a device).
    """
    if p.proto == IPPROTO_TCP:
        return tcp_reset(p)
    if p.proto == IPPROTO_UDP:
        return port_unreachable(p, ident=ident, saddr=saddr)
    if p.proto == (IPPROTO_ICMP if p.af == AF_INET else IPPROTO_ICMPV6):
        return echo_reply(p, ident=ident)
    return protocol_unreachable(p, ident=ident, saddr=saddr)


def tcp_reset(p: Packet) -> Packet | None:
    """The RST that answers a TCP segment; None to an RST, and to a segment that is incomplete or has a wrong checksum (source: tcp_ipv4.c, tcp_v4_send_reset)."""
    segment = p.l4_bytes
    if p.proto != IPPROTO_TCP or len(segment) < 20 or segment[13] & RST or not transport_csum_ok(p):
        return None
    header = segment[12] >> 4 << 2
    options = echo(p, p.daddr)
    if options is None or not 20 <= header <= len(segment):
        return None
    flags = segment[13]
    if flags & ACK:
        seq, ack, answer = p.ack, 0, RST
    else:
        length = len(segment) - header + bool(flags & SYN) + bool(flags & FIN)
        seq, ack, answer = 0, (p.seq + length) & 0xFFFFFFFF, RST | ACK
    body = tcp_segment(p.dst, p.src, answer, seq, ack, 0, b"", b"")
    return Packet.parse(ip_packet(p.af, IPPROTO_TCP, p.daddr, p.saddr, body, tos=p.tos & ~INET_ECN_MASK, ident=0, df=True, options=options))


def protocol_unreachable(p: Packet, *, ident: int = 0, saddr: int | None = None) -> Packet | None:
    """The ICMP 3/2, or ICMPv6 4/1 that points at the next-header byte, about a protocol that nobody handles; None about a broken header chain and no-next-header."""
    source = p.daddr if saddr is None else saddr
    if p.proto < 0:
        return None
    if p.af == AF_INET:
        return icmp_error(p, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, saddr=source, ident=ident)
    if p.proto == NEXTHDR_NONE:
        return None
    return icmp_error(p, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, next_header_at(p.raw), saddr=source)


def udp_datagram(p: Packet) -> Packet | None:
    """The packet without what lies behind its UDP datagram, as a socket gets it; None if it is incomplete or has a wrong checksum, over IPv6 also none (source: udp.c, __udp4_lib_rcv)."""
    segment = p.l4_bytes
    if p.proto != IPPROTO_UDP or not p.has_ports or len(segment) < 8:
        return None
    length = segment[4] << 8 | segment[5]
    if p.af != AF_INET:
        length = length or len(segment)  # a jumbogram states none
        if segment[6:8] == bytes(2):
            return None
    if not 8 <= length <= len(segment):
        return None
    if length < len(segment):
        p = p.with_raw(p.raw[: p.l4 + length])
    return p if transport_csum_ok(p) else None


def port_unreachable(p: Packet, *, ident: int = 0, saddr: int | None = None) -> Packet | None:
    """The ICMP 3/3 or ICMPv6 1/4 that answers a sound UDP datagram (`udp_datagram`), which it quotes; None to others."""
    datagram = udp_datagram(p)
    if datagram is None:
        return None
    source = p.daddr if saddr is None else saddr
    if p.af == AF_INET:
        return icmp_error(datagram, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, saddr=source, ident=ident)
    return icmp_error(datagram, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, saddr=source)


def echo_reply(p: Packet, *, ident: int = 0) -> Packet | None:
    """The answer to an ICMP or ICMPv6 echo request with a right checksum, from the address that was asked; else None (source: icmp.c, icmp_echo; icmp6.c, icmpv6_echo_reply)."""
    message = p.l4_bytes
    options = echo(p, p.daddr)
    if options is None or len(message) < 8 or not transport_csum_ok(p):
        return None
    if p.af == AF_INET and p.proto == IPPROTO_ICMP and message[0] == 8:
        body = icmp_message(0, message[1], message[4:8], message[8:])
    elif p.af != AF_INET and p.proto == IPPROTO_ICMPV6 and message[0] == 128:
        body = icmpv6_message(p.daddr, p.saddr, 129, message[1], message[4:8], message[8:])
    else:
        return None
    return Packet.parse(ip_packet(p.af, p.proto, p.daddr, p.saddr, body, tos=p.tos, ident=ident, options=options))
