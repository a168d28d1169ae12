"""The packet view (struct ip_vs_iphdr): an IP header somewhere in a packet and the transport header behind it."""

from __future__ import annotations

from typing import Final

from ipvs_model.flags import AF_INET, IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import PORT_PROTOCOLS, ipv6_find_hdr

_new: Final = object.__new__

IP6_FH_F_FRAG: Final = 1  #: IpHdr.flags: an IPv6 fragment header was met


#: members of the view in the order of its constructor
IPHDR_FIELDS: Final = ("af", "off", "len", "protocol", "fragoffs", "flags", "saddr", "daddr", "hdr_flags", "sport", "dport")


class IpHdr:
    """Where the headers are and what they say (source: include/net/ip_vs.h, struct ip_vs_iphdr).

    With IP_VS_HDR_INVERSE in hdr_flags source and destination play swapped roles: `client` and `virtual` are the roles, saddr and the rest the bytes.
    """

    __slots__ = IPHDR_FIELDS

    def __init__(
        self,
        af: int,
        off: int,
        len: int,
        protocol: int,
        fragoffs: int,
        flags: int,
        saddr: int,
        daddr: int,
        hdr_flags: int,
        sport: int | None,
        dport: int | None,
    ) -> None:
        self.af = af  #: family of this header
        self.off = off  #: offset of the IP header in the packet
        self.len = len  #: offset of the transport header in the packet
        self.protocol = protocol  #: transport protocol; negative if the header chain is broken
        self.fragoffs = fragoffs  #: IPv6: bytes before a later fragment's data; 0 for IPv4
        self.flags = flags  #: IP6_FH_F_FRAG or 0
        self.saddr = saddr
        self.daddr = daddr
        self.hdr_flags = hdr_flags  #: IP_VS_HDR_INVERSE, IP_VS_HDR_ICMP
        self.sport = sport  #: None: no port bytes there
        self.dport = dport

    @property
    def inverse(self) -> bool:
        """Source and destination play swapped roles."""
        return self.hdr_flags & IP_VS_HDR_INVERSE != 0

    @property
    def icmp(self) -> bool:
        """The header is quoted in an ICMP error."""
        return self.hdr_flags & IP_VS_HDR_ICMP != 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IpHdr):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in IPHDR_FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IpHdr({', '.join(repr(getattr(self, name)) for name in IPHDR_FIELDS)})"


def fill_iph(pkt: Packet, hdr_flags: int = 0) -> IpHdr:
    """The view of the packet itself, as the hook functions fill it: a broken chain is a negative protocol (source: ip_vs.h, ip_vs_fill_iph_skb)."""
    src, dst = pkt.src, pkt.dst
    view = _new(IpHdr)
    view.af = pkt.af
    view.off = 0
    view.protocol = pkt.proto
    view.saddr = src >> 16
    view.daddr = dst >> 16
    view.hdr_flags = hdr_flags
    if pkt.lane:
        view.len = pkt.l4
        view.fragoffs = view.flags = 0
        view.sport = src & 0xFFFF
        view.dport = dst & 0xFFFF
        return view
    view.fragoffs = pkt.fragoffs
    view.flags = IP6_FH_F_FRAG if pkt.af != AF_INET and pkt.frag else 0
    # the kernel's walk leaves the offset alone when it ends in a later fragment or in nothing
    view.len = 0 if view.fragoffs or pkt.proto < 0 else pkt.l4
    view.sport, view.dport = (src & 0xFFFF, dst & 0xFFFF) if pkt.has_ports else (None, None)
    return view


def fill_iph_at(raw: bytes, af: int, off: int, hdr_flags: int = 0) -> IpHdr | None:
    """The view of the header at `off` (source: ip_vs.h, ip_vs_fill_iph_skb_off).

    None if its 20 bytes (IPv4) or 40 bytes (IPv6) are not all there, an IPv6 header behind another one is not of version 6, or its chain is broken.
    IPv4 version, header length, checksum and total length are not looked at.
    """
    if af == AF_INET:
        if len(raw) < off + 20:
            return None
        start = off + ((raw[off] & 15) << 2)
        protocol = raw[off + 9]
        sport, dport = _ports_at(raw, start, protocol)
        saddr = int.from_bytes(raw[off + 12 : off + 16], "big")
        daddr = int.from_bytes(raw[off + 16 : off + 20], "big")
        return IpHdr(af, off, start, protocol, 0, 0, saddr, daddr, hdr_flags, sport, dport)
    if len(raw) < off + 40 or (off and raw[off] >> 4 != 6):
        return None
    chain = ipv6_find_hdr(raw, off)
    if chain.protocol < 0:
        return None
    sport, dport = (None, None) if chain.fragoffs else _ports_at(raw, chain.offset, chain.protocol)
    saddr = int.from_bytes(raw[off + 8 : off + 24], "big")
    daddr = int.from_bytes(raw[off + 24 : off + 40], "big")
    start = off if chain.fragoffs else chain.offset
    flags = IP6_FH_F_FRAG if chain.frag else 0
    return IpHdr(af, off, start, chain.protocol, chain.fragoffs, flags, saddr, daddr, hdr_flags, sport, dport)


def _ports_at(raw: bytes, start: int, protocol: int) -> tuple[int, int] | tuple[None, None]:
    if protocol not in PORT_PROTOCOLS or len(raw) < start + 4:
        return None, None
    return raw[start] << 8 | raw[start + 1], raw[start + 2] << 8 | raw[start + 3]
