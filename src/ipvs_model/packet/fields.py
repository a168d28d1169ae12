"""What a packet holds: the fields that IPVS reads, and the bytes, made when somebody wants them."""

from __future__ import annotations

from typing import Any, Final

from ipvs_model.flags import AF_INET, IPPROTO_ESP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.build import tcp_packet, udp_packet, usual_tcp_packet
from ipvs_model.packet.ethernet import ETHERNET_HEADER
from ipvs_model.packet.patch import patched

#: bits of Packet.lazy: what `raw` has still to do to `store`
LAZY_BUILD: Final = 1  #: `store` is the tuple a constructor keeps: build the bytes
LAZY_HEADER: Final = 2  #: the IP header is to show src, dst and ttl as they are now
LAZY_NAT: Final = 4  #: so are the ports, and the transport checksum follows
LAZY_FRAME: Final = 8  #: `store` is an Ethernet frame: the packet is to be cut out of it
LAZY_FEW: Final = 16  #: with LAZY_BUILD: `store` is what Packet.tcp_between keeps
LAZY_ALL: Final = 31

#: protocol → bytes of its header, where they are fixed
_HEADER_LENGTHS: Final = {IPPROTO_UDP: 8, IPPROTO_SCTP: 12, IPPROTO_ICMP: 8, IPPROTO_ICMPV6: 8, IPPROTO_ESP: 8}


TCP4: Final = AF_INET << 16 | IPPROTO_TCP  #: the lane of TCP over IPv4


class Rare:
    """What only unusual packets have; a packet without it is a whole TCP or UDP packet that was never in pieces."""

    __slots__ = ("frag", "frag_max_size", "fragoffs", "has_ports", "pieces", "truncated")

    def __init__(
        self, has_ports: bool, frag: bool = False, fragoffs: int = 0, truncated: bool = False, frag_max_size: int = 0, pieces: tuple[int, ...] = ()
    ) -> None:
        self.has_ports = has_ports
        self.frag = frag
        self.fragoffs = fragoffs
        self.truncated = truncated
        self.frag_max_size = frag_max_size
        self.pieces = pieces


class QuickFields:
    """The members that every packet is asked for: those of one class lie side by side in memory."""

    __slots__ = ("bits", "dst", "flags", "lane", "length", "src", "ttl")

    src: int  #: source endpoint, address << 16 | port; port 0 where there are no ports
    dst: int  #: destination endpoint
    flags: int  #: TCP flags F 1, S 2, R 4, A 16; -1 if not TCP or fewer than 20 bytes of it
    length: int  #: bytes of the packet from the IP header on
    ttl: int  #: TTL or hop limit
    lane: int  #: af << 16 | proto of a `plain` packet, 0 of any other: the key of the table that its connection is in
    bits: int  #: PKT_* of flags.py


class PacketFields(QuickFields):
    """Members and bytes of a packet; `Packet` adds the ways to make one."""

    #: A fast path that owns a packet may rewrite it in place: it stores src, dst, ttl and adds LAZY_HEADER or LAZY_NAT to `lazy` (plain packets, no PKT_PARTIAL).
    __slots__ = ("af", "device", "df", "l4", "lazy", "mark", "proto", "rare", "store")

    af: int  #: AF_INET or AF_INET6
    proto: int  #: transport protocol, after IPv6 extension headers; negative (an errno) if the header chain is broken
    l4: int  #: offset of the transport header
    df: bool  #: IPv4 "don't fragment"
    mark: int  #: fwmark
    device: str | None  #: input device; None: made by this host
    rare: Rare | None
    store: bytes | tuple[object, ...]
    lazy: int

    # --- bytes --------------------------------------------------------------------------------------------------------
    @property
    def raw(self) -> bytes:
        """The whole packet from its IP header on."""
        lazy = self.lazy
        store: Any = self.store
        if not lazy & LAZY_BUILD:
            raw: bytes = store
            if not lazy:
                return raw
            if lazy & LAZY_FRAME:
                raw = raw[ETHERNET_HEADER : ETHERNET_HEADER + self.length]
            if lazy != LAZY_FRAME:
                raw = patched(raw, self.af, self.proto, self.src, self.dst, self.ttl, self.l4, lazy & LAZY_NAT != 0)
        elif lazy & LAZY_FEW:
            raw = usual_tcp_packet(self.af, self.src, self.dst, self.ttl, self.df, store)
        elif self.proto == IPPROTO_TCP:
            raw = tcp_packet(self.af, self.src, self.dst, self.ttl, self.df, store)
        else:
            payload, tos, ident, checksum = store
            raw = udp_packet(self.af, self.src, self.dst, self.ttl, self.df, (payload, tos, ident, checksum or lazy & LAZY_NAT != 0))
        self.store = raw
        self.lazy = 0
        return raw

    def __bytes__(self) -> bytes:
        return self.raw

    # --- fields that are read now and then ----------------------------------------------------------------------------
    @property
    def plain(self) -> bool:
        """Whole, undamaged, unfragmented TCP or UDP with its complete fixed header."""
        return self.lane != 0

    @property
    def has_ports(self) -> bool:
        """TCP, UDP or SCTP with its four bytes of ports, and no later fragment."""
        rare = self.rare
        return True if rare is None else rare.has_ports

    @property
    def frag(self) -> bool:
        """IPv4: a fragment; IPv6: a fragment header was met."""
        rare = self.rare
        return False if rare is None else rare.frag

    @property
    def fragoffs(self) -> int:
        """IPv6: bytes before this later fragment's data, else 0; always 0 for IPv4."""
        rare = self.rare
        return 0 if rare is None else rare.fragoffs

    @property
    def truncated(self) -> bool:
        """The IP header states more bytes than there are."""
        rare = self.rare
        return False if rare is None else rare.truncated

    @property
    def frag_max_size(self) -> int:
        """Length of the largest fragment that a reassembled packet came in; 0 if it came whole."""
        rare = self.rare
        return 0 if rare is None else rare.frag_max_size

    @frag_max_size.setter
    def frag_max_size(self, size: int) -> None:
        self.rare = Rare(self.has_ports, self.frag, self.fragoffs, self.truncated, size, self.pieces)

    @property
    def pieces(self) -> tuple[int, ...]:
        """Bytes of data in each of the fragments that a reassembled packet came in; empty if that is not known."""
        rare = self.rare
        return () if rare is None else rare.pieces

    @property
    def saddr(self) -> int:
        """Source address."""
        return self.src >> 16

    @property
    def daddr(self) -> int:
        """Destination address."""
        return self.dst >> 16

    @property
    def sport(self) -> int:
        """Source port, 0 if there is none."""
        return self.src & 0xFFFF

    @property
    def dport(self) -> int:
        """Destination port, 0 if there is none."""
        return self.dst & 0xFFFF

    @property
    def l4_len(self) -> int:
        """Bytes from the transport header on."""
        return max(self.length - self.l4, 0)

    @property
    def tos(self) -> int:
        """TOS or traffic class, 8 bits; 0 if the header is cut off."""
        raw = self.raw
        if len(raw) < 2:
            return 0
        return raw[1] if self.af == AF_INET else (raw[0] << 4 | raw[1] >> 4) & 0xFF

    @property
    def id(self) -> int:
        """IPv4 identification; 0 for IPv6."""
        return int.from_bytes(self.raw[4:6], "big") if self.af == AF_INET else 0

    @property
    def seq(self) -> int:
        """TCP sequence number (of whatever stands there in another protocol; 0 if cut off)."""
        return int.from_bytes(self.raw[self.l4 + 4 : self.l4 + 8], "big")

    @property
    def ack(self) -> int:
        """TCP acknowledgement number; 0 if cut off."""
        return int.from_bytes(self.raw[self.l4 + 8 : self.l4 + 12], "big")

    @property
    def l4_bytes(self) -> bytes:
        """Transport header and data."""
        return self.raw[self.l4 :]

    @property
    def payload(self) -> bytes:
        """Data behind the TCP, UDP, SCTP (its chunks), ICMP or ESP header; behind the IP headers for everything else."""
        raw, l4 = self.raw, self.l4
        if self.proto == IPPROTO_TCP:
            return raw[l4 + (raw[l4 + 12] >> 4 << 2 if len(raw) > l4 + 12 else 20) :]
        return raw[l4 + _HEADER_LENGTHS.get(self.proto, 0) :]

    # --- as an object -------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PacketFields):
            return NotImplemented
        return self.raw == other.raw and self.mark == other.mark and self.device == other.device

    __hash__ = None  # type: ignore[assignment]
