"""Tunnels: IPIP, GUE and GRE headers in front of a packet, with IPv4 or IPv6 outside and either inside."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_TUNNEL_TYPE_GRE,
    IP_VS_CONN_F_TUNNEL_TYPE_GUE,
    IP_VS_TUNNEL_ENCAP_FLAG_CSUM,
    IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM,
    IPPROTO_GRE,
    IPPROTO_IPIP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    PKT_PARTIAL,
)
from ipvs_model.packet.build import ip_packet
from ipvs_model.packet.checksum import TRANSPORT_CHECKSUMS, csum16, pseudo_csum
from ipvs_model.packet.ethernet import ETH_P_IP, ETH_P_IPV6
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.rewrite import complete

INET_ECN_MASK: Final = 3
INET_ECN_CE: Final = 3
INET_ECN_ECT_0: Final = 2

GUE_FLAG_PRIV: Final = 1
GUE_PFLAG_REMCSUM: Final = 0x80000000
GRE_CSUM: Final = 0x8000
GRE_PROTOCOLS: Final = {IPPROTO_IPIP: ETH_P_IP, IPPROTO_IPV6: ETH_P_IPV6}

_UDP: Final = Struct("!HHHH")
_GUE: Final = Struct("!BBH")
_GRE: Final = Struct("!HH")
_REMCSUM: Final = Struct("!IHH")


def tunnel_overhead(p: Packet, outer_af: int, tun_type: int, tun_flags: int = 0) -> int:
    """Bytes that encapsulation adds: outer IP header and what lies between (source: ip_vs_xmit.c, __ip_vs_get_out_rt)."""
    size = 20 if outer_af == AF_INET else 40
    if tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GUE:
        size += 12
        if _remote_checksum(p, tun_flags):
            size += 8
    elif tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GRE:
        size += 8 if tun_flags & IP_VS_TUNNEL_ENCAP_FLAG_CSUM else 4
    return size


def outer_tos(tos: int) -> int:
    """The outer TOS or traffic class for an inner one: copied, but "congestion experienced" becomes ECT(0) (source: inet_ecn.h, INET_ECN_encapsulate).

    >>> [hex(outer_tos(tos)) for tos in (0x29, 0x03, 0x00)]
    ['0x29', '0x2', '0x0']
    """
    return tos & ~INET_ECN_MASK | INET_ECN_ECT_0 if tos & INET_ECN_MASK == INET_ECN_CE else tos


def encapsulate(
    p: Packet,
    outer_af: int,
    saddr: int,
    daddr: int,
    *,
    tun_type: int = 0,
    tun_port: int = 0,
    tun_flags: int = 0,
    pmtu_disc: bool = True,
    ident: int = 0,
    sport: int = 0,
) -> Packet:
    """The packet inside an outer one from `saddr` to `daddr`; its TTL, already decremented, becomes the outer TTL too.

    `tun_port` and `sport` are the UDP ports of GUE, `ident` the IPv4 id of an outer header without DF (with DF it is 0), `pmtu_disc` the sysctl
    that lets DF be copied from an inner IPv4 header. A partial inner checksum is completed, or described by the GUE header if REMCSUM asks for that.
    Source: ip_vs_xmit.c, ip_vs_tunnel_xmit, ip_vs_tunnel_xmit_v6, ipvs_gue_encap, ipvs_gre_encap.
    """
    protocol = IPPROTO_IPIP if p.af == AF_INET else IPPROTO_IPV6
    remote = tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GUE and _remote_checksum(p, tun_flags)
    inner = p if remote else complete(p)
    if tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GUE:
        body = _gue(inner, protocol, tun_flags, saddr, daddr, sport, tun_port, remote)
        protocol = IPPROTO_UDP
    elif tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GRE:
        body = _gre(inner, protocol, tun_flags)
        protocol = IPPROTO_GRE
    else:
        body = inner.raw
    df = p.df and pmtu_disc
    raw = ip_packet(outer_af, protocol, saddr, daddr, body, ttl=p.ttl, tos=outer_tos(p.tos), ident=0 if df else ident, df=df)
    same = outer_af == p.af  # what the other family noted about fragments is not readable for this one
    return Packet.parse(
        raw, mark=p.mark, device=p.device, bits=p.bits & ~PKT_PARTIAL, frag_max_size=p.frag_max_size if same else 0, pieces=p.pieces if same else ()
    )


def _remote_checksum(p: Packet, tun_flags: int) -> bool:
    return tun_flags & IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM != 0 and p.bits & PKT_PARTIAL != 0 and p.proto in TRANSPORT_CHECKSUMS


def _gue(p: Packet, protocol: int, tun_flags: int, saddr: int, daddr: int, sport: int, dport: int, remote: bool) -> bytes:
    header = _GUE.pack(0, protocol, 0)
    if remote:
        field = TRANSPORT_CHECKSUMS[p.proto][0]
        header = _GUE.pack(2, protocol, GUE_FLAG_PRIV) + _REMCSUM.pack(GUE_PFLAG_REMCSUM, p.l4, p.l4 + field)
    data = header + p.raw
    length = 8 + len(data) & 0xFFFF
    datagram = _UDP.pack(sport, dport, length, 0) + data
    if not tun_flags & (IP_VS_TUNNEL_ENCAP_FLAG_CSUM | IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM):
        return datagram
    return _UDP.pack(sport, dport, length, pseudo_csum(saddr, daddr, IPPROTO_UDP, datagram) or 0xFFFF) + data


def _gre(p: Packet, protocol: int, tun_flags: int) -> bytes:
    kind = GRE_PROTOCOLS[protocol]
    if not tun_flags & IP_VS_TUNNEL_ENCAP_FLAG_CSUM:
        return _GRE.pack(0, kind) + p.raw
    data = _GRE.pack(GRE_CSUM, kind) + bytes(4) + p.raw
    return data[:4] + (csum16(data) or 0xFFFF).to_bytes(2, "big") + data[6:]
