"""The parsed IP packet: the object that walks through hooks, lookups, state machines and transmitters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import parse_addr, parse_endpoint
from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_AH, IPPROTO_ESP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet import build
from ipvs_model.packet.ethernet import carried_ip
from ipvs_model.packet.fields import LAZY_BUILD, LAZY_FEW, LAZY_FRAME, TCP4, PacketFields, Rare
from ipvs_model.packet.parse import FRAME_TCP, IP_DF, IP_MF, IP_OFFSET, IPV4_PORTS, TCP_FLAG_BITS, Fields, parse_fields
from ipvs_model.packet.text import constructor_call, parse_call

if TYPE_CHECKING:
    from ipvs_model.addresses import AddressLike, EndpointLike

_frame: Final = FRAME_TCP.unpack_from
_ports: Final = IPV4_PORTS.unpack_from
LAZY_BUILD_FEW: Final = LAZY_BUILD | LAZY_FEW
_FRAGMENT: Final = IP_MF | IP_OFFSET


class Packet(PacketFields):
    """An IP packet: the fields that IPVS reads, parsed at construction, and the bytes, made when somebody wants them.

    Make one with `parse`, `from_frame` or with `tcp`, `udp`, `sctp`, `icmp`, `esp`, `ah`, `ip`. Header fields are not to be changed in place (the
    functions of this room return new packets); mark, device, bits and frag_max_size may be. Packets are equal if bytes, mark and device are.

    >>> Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")
    Packet.tcp('203.0.113.5:40000', '192.0.2.1:80', 'S')
    """

    __slots__ = ()

    # --- from bytes ---------------------------------------------------------------------------------------------------
    @classmethod
    def parse(
        cls, raw: bytes, mark: int = 0, device: str | None = None, bits: int = 0, frag_max_size: int = 0, pieces: tuple[int, ...] = ()
    ) -> Packet:
        """A packet from its bytes, beginning with the IP header. Never raises: see `proto`, `truncated`, `plain` for what is damaged.

        Bytes behind the length stated in the header (link-layer padding) are cut off. `frag_max_size` and `pieces` say that it was reassembled.
        """
        p = cls()
        p.mark = mark
        p.device = device
        p.bits = bits
        p.lazy = 0
        n = len(raw)
        if n >= 28 and type(raw) is bytes and not frag_max_size:
            vihl, total, word, ttl, proto, saddr, daddr, sport, dport = _ports(raw)
            if vihl == 0x45 and total == n and not word & _FRAGMENT and (proto == IPPROTO_UDP or (proto == IPPROTO_TCP and n >= 40)):
                p.af = AF_INET
                p.proto = proto
                p.src = saddr << 16 | sport
                p.dst = daddr << 16 | dport
                p.flags = -1 if proto == IPPROTO_UDP else raw[33] & TCP_FLAG_BITS
                p.length = n
                p.ttl = ttl
                p.l4 = 20
                p.df = word & IP_DF != 0
                p.lane = AF_INET << 16 | proto
                p.rare = None
                p.store = raw
                return p
        p._fill(parse_fields(bytes(raw)), frag_max_size, pieces)
        return p

    @staticmethod
    def from_frame(frame: bytes, mark: int = 0, device: str | None = None, bits: int = 0) -> Packet:
        r"""The packet in an Ethernet frame, with VLAN tags or without, as `parse` makes it.

        Raises ValueError for a frame that carries no IP, or another version than its EtherType states.

        >>> Packet.from_frame(bytes(12) + b"\x08\x00" + Packet.udp("203.0.113.5:40000", "192.0.2.1:53").raw)
        Packet.udp('203.0.113.5:40000', '192.0.2.1:53')
        """
        s = FramedTcp()
        try:
            ethertype, vihl, s.tos, s.length, s.id, word, s.ttl, s.proto, s.saddr, s.daddr, s.sport, s.dport, s.seq, s.ack, flags = _frame(frame)
        except StructError:  # too short for all that
            return Packet.parse(carried_ip(frame), mark, device, bits)
        if (  # a name takes longer to look up than a number: ETH_P_IP, IPPROTO_TCP, IP_DF, ETHERNET_HEADER, TCP_FLAG_BITS
            ethertype == 0x0800
            and vihl == 0x45
            and s.proto == 6
            and (word == 0x4000 or not word)
            and (s.length + 14 == len(frame) or 40 <= s.length < len(frame) - 14)
            and type(frame) is bytes
        ):
            s.flags = flags & 0x17
            s.l4 = 20
            s.df = word != 0
            s.lane = TCP4
            s.mark = mark
            s.device = device
            s.bits = bits
            s.rare = None
            s.store = frame
            s.lazy = LAZY_FRAME
            return s
        return Packet.parse(carried_ip(frame), mark, device, bits)

    def _fill(self, f: Fields, frag_max_size: int, pieces: tuple[int, ...]) -> None:
        self.af = f.af
        self.proto = f.proto
        self.src = f.src
        self.dst = f.dst
        self.flags = f.flags
        self.length = len(f.raw)
        self.ttl = f.ttl
        self.l4 = f.l4
        self.df = f.df
        self.lane = f.af << 16 | f.proto if f.plain else 0
        self.store = f.raw
        unusual = not f.plain or frag_max_size != 0
        self.rare = Rare(f.has_ports, f.frag, f.fragoffs, f.truncated, frag_max_size, pieces) if unusual else None

    # --- constructors -------------------------------------------------------------------------------------------------
    @classmethod
    def tcp(
        cls,
        src: EndpointLike,
        dst: EndpointLike,
        flags: str | int = "S",
        *,
        seq: int = 1000,
        ack: int = 0,
        payload: bytes = b"",
        window: int = 65535,
        options: bytes = b"",
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """A TCP packet. Endpoints as people write them ("192.0.2.1:80", "[2001:db8::1]:80", (address, port)); flags in letters of FSRPAUEC.

        `tos` and `ttl` are traffic class and hop limit over IPv6, where `id` and `df` mean nothing. Raises ValueError for what does not fit.
        """
        af, source, destination = _endpoints(src, dst)
        value = build.tcp_flags(flags)
        for name, number, width in (("seq", seq, 32), ("ack", ack, 32), ("window", window, 16)):
            build.check_range(name, number, width)
        options += bytes(-len(options) % 4)
        _check_size(af, 20 + len(options) + len(payload))
        build.check_range("TCP options, in words,", len(options) // 4 + 5, 4)
        parts = (value, seq, ack, window, options, payload, tos, id)
        p = _constructed(cls, af, IPPROTO_TCP, source, destination, ttl, tos, id, df, mark, device, bits)
        p.flags = value & TCP_FLAG_BITS
        p.length += 20 + len(options) + len(payload)
        p.store = parts
        return p

    @classmethod
    def tcp_between(cls, af: int, src: int, dst: int, flags: int = 2, payload: bytes = b"", mark: int = 0, device: str | None = None) -> Packet:
        """The same as `tcp` for generators of traffic: endpoints and flags are ints that nobody checks, the rest has the defaults."""
        p = cls()
        p.af = af
        p.proto = IPPROTO_TCP
        p.src = src
        p.dst = dst
        p.flags = flags & TCP_FLAG_BITS
        p.l4 = l4 = 20 if af == AF_INET else 40
        p.length = l4 + 20 + len(payload)
        p.ttl = 64
        p.df = af == AF_INET
        p.lane = af << 16 | IPPROTO_TCP
        p.mark = mark
        p.device = device
        p.bits = 0
        p.rare = None
        p.store = (flags, payload)
        p.lazy = LAZY_BUILD_FEW
        return p

    @classmethod
    def udp(
        cls,
        src: EndpointLike,
        dst: EndpointLike,
        payload: bytes = b"",
        *,
        checksum: bool = True,
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """A UDP packet; `checksum=False` leaves the field 0. The rest as for `tcp`."""
        af, source, destination = _endpoints(src, dst)
        _check_size(af, 8 + len(payload))
        p = _constructed(cls, af, IPPROTO_UDP, source, destination, ttl, tos, id, df, mark, device, bits)
        p.flags = -1
        p.length += 8 + len(payload)
        p.store = (payload, tos, id, checksum)
        return p

    @classmethod
    def sctp(
        cls,
        src: EndpointLike,
        dst: EndpointLike,
        chunks: Iterable[tuple[int, int, bytes]] = ((1, 0, bytes(16)),),
        *,
        vtag: int = 0,
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """An SCTP packet with a right CRC32c; chunks are (type, flags, value), by default one INIT. The rest as for `tcp`."""
        af, source, destination = _endpoints(src, dst)
        body = build.sctp_packet(source, destination, chunks, build.check_range("vtag", vtag, 32))
        raw = _checked(af, IPPROTO_SCTP, source >> 16, destination >> 16, body, ttl, tos, id, df)
        return cls.parse(raw, mark=mark, device=device, bits=bits)

    @classmethod
    def icmp(
        cls,
        src: AddressLike,
        dst: AddressLike,
        type: int = 8,
        code: int = 0,
        rest: bytes = bytes(4),
        payload: bytes = b"",
        *,
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """An ICMP message, ICMPv6 between IPv6 addresses; `rest` is the second word of its header. The rest as for `tcp`."""
        af, saddr, daddr = _addresses(src, dst)
        if len(rest) != 4:
            raise ValueError(f"rest has {len(rest)} bytes, wants 4")
        if af == AF_INET:
            protocol, message = IPPROTO_ICMP, build.icmp_message(type, code, rest, payload)
        else:
            protocol, message = IPPROTO_ICMPV6, build.icmpv6_message(saddr, daddr, type, code, rest, payload)
        raw = _checked(af, protocol, saddr, daddr, message, ttl, tos, id, df)
        return cls.parse(raw, mark=mark, device=device, bits=bits)

    @classmethod
    def esp(
        cls,
        src: AddressLike,
        dst: AddressLike,
        spi: int = 1,
        seq: int = 1,
        payload: bytes = bytes(16),
        *,
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """An ESP packet: SPI, sequence number, encrypted bytes. The rest as for `tcp`."""
        body = build.check_range("spi", spi, 32).to_bytes(4, "big") + build.check_range("seq", seq, 32).to_bytes(4, "big") + payload
        return cls.ip(src, dst, IPPROTO_ESP, body, ttl=ttl, tos=tos, id=id, df=df, mark=mark, device=device, bits=bits)

    @classmethod
    def ah(
        cls,
        src: AddressLike,
        dst: AddressLike,
        spi: int = 1,
        seq: int = 1,
        payload: bytes = bytes(16),
        *,
        next_header: int = IPPROTO_TCP,
        icv: bytes = bytes(12),
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """A packet with an authentication header in front of `payload`; `icv` is a multiple of 4 bytes. The rest as for `tcp`."""
        if len(icv) % 4:
            raise ValueError(f"icv has {len(icv)} bytes, wants a multiple of 4")
        head = bytes((next_header, (12 + len(icv)) // 4 - 2, 0, 0))
        body = head + build.check_range("spi", spi, 32).to_bytes(4, "big") + build.check_range("seq", seq, 32).to_bytes(4, "big") + icv + payload
        return cls.ip(src, dst, IPPROTO_AH, body, ttl=ttl, tos=tos, id=id, df=df, mark=mark, device=device, bits=bits)

    @classmethod
    def ip(
        cls,
        src: AddressLike,
        dst: AddressLike,
        protocol: int,
        payload: bytes = b"",
        *,
        options: bytes = b"",
        ttl: int = 64,
        tos: int = 0,
        id: int = 1,
        df: bool = True,
        mark: int = 0,
        device: str | None = None,
        bits: int = 0,
    ) -> Packet:
        """An IP packet around any bytes; `protocol` is the protocol or next header, `options` are IPv4 options. The rest as for `tcp`."""
        af, saddr, daddr = _addresses(src, dst)
        raw = _checked(af, protocol, saddr, daddr, payload, ttl, tos, id, df, options)
        return cls.parse(raw, mark=mark, device=device, bits=bits)

    # --- as an object ---------------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        call = constructor_call(self)
        if call is not None and getattr(Packet, call.name)(*call.args, **call.kwargs).raw == self.raw:
            return str(call)
        return parse_call(self)

    def __reduce__(self) -> tuple[Callable[..., Packet], tuple[object, ...]]:
        return _restore, (self.raw, self.mark, self.device, self.bits, self.frag_max_size, self.pieces)

    # --- copies -------------------------------------------------------------------------------------------------------
    def clone(self) -> Packet:
        """Another packet object with the same fields, bytes and marks."""
        p = Packet()
        p.af = self.af
        p.proto = self.proto
        p.src = self.src
        p.dst = self.dst
        p.flags = self.flags
        p.length = self.length
        p.ttl = self.ttl
        p.l4 = self.l4
        p.df = self.df
        p.lane = self.lane
        p.mark = self.mark
        p.device = self.device
        p.bits = self.bits
        p.rare = self.rare
        p.store = self.store
        p.lazy = self.lazy
        return p

    def with_raw(self, raw: bytes) -> Packet:
        """A packet of other bytes that carries what this one carries beside its bytes: mark, device, bits, how it was fragmented."""
        rare = self.rare
        if rare is None:
            return Packet.parse(raw, mark=self.mark, device=self.device, bits=self.bits)
        return Packet.parse(raw, mark=self.mark, device=self.device, bits=self.bits, frag_max_size=rare.frag_max_size, pieces=rare.pieces)


class FramedTcp(Packet):
    """A whole IPv4 TCP segment without IP options, left in its Ethernet frame: each field of its headers is at hand, since readers of captures ask for it."""

    __slots__ = ("ack", "daddr", "dport", "id", "saddr", "seq", "sport", "tos")

    af = AF_INET
    saddr: int
    daddr: int
    sport: int
    dport: int
    tos: int
    id: int
    seq: int
    ack: int

    @property
    def src(self) -> int:
        """Source endpoint, address << 16 | port."""
        return self.saddr << 16 | self.sport

    @src.setter
    def src(self, endpoint: int) -> None:
        self.saddr, self.sport = endpoint >> 16, endpoint & 0xFFFF

    @property
    def dst(self) -> int:
        """Destination endpoint."""
        return self.daddr << 16 | self.dport

    @dst.setter
    def dst(self, endpoint: int) -> None:
        self.daddr, self.dport = endpoint >> 16, endpoint & 0xFFFF


def _restore(raw: bytes, mark: int, device: str | None, bits: int, frag_max_size: int, pieces: tuple[int, ...]) -> Packet:
    return Packet.parse(raw, mark=mark, device=device, bits=bits, frag_max_size=frag_max_size, pieces=pieces)


def _checked(
    af: int, protocol: int, saddr: int, daddr: int, body: bytes, ttl: int, tos: int, id: int, df: bool, options: bytes = b""
) -> bytes:
    """Bytes of a packet around a body. Raises ValueError for header fields and sizes that do not fit."""
    for name, number, width in (("protocol", protocol, 8), ("ttl", ttl, 8), ("tos", tos, 8), ("id", id, 16)):
        build.check_range(name, number, width)
    _check_size(af, len(options) + -len(options) % 4 + len(body))
    return build.ip_packet(af, protocol, saddr, daddr, body, ttl=ttl, tos=tos, ident=id, df=df, options=options)


def _constructed(
    cls: type[Packet], af: int, proto: int, src: int, dst: int, ttl: int, tos: int, id: int, df: bool, mark: int, device: str | None, bits: int
) -> Packet:
    """A plain packet whose bytes are not built yet; flags and store are still to be set, length counts the IP header only."""
    for name, number, width in (("ttl", ttl, 8), ("tos", tos, 8), ("id", id, 16)):
        build.check_range(name, number, width)
    p = cls()
    p.af = af
    p.proto = proto
    p.src = src
    p.dst = dst
    p.length = p.l4 = 20 if af == AF_INET else 40
    p.ttl = ttl
    p.df = df and af == AF_INET
    p.lane = af << 16 | proto
    p.mark = mark
    p.device = device
    p.bits = bits
    p.rare = None
    p.lazy = LAZY_BUILD
    return p


def _check_size(af: int, length: int) -> None:
    limit = 0xFFFF - (20 if af == AF_INET else 0)
    if length > limit:
        raise ValueError(f"{length} bytes behind the IP header, at most {limit}")


def _endpoints(src: EndpointLike, dst: EndpointLike) -> tuple[int, int, int]:
    """Common family and both endpoints. Raises ValueError if the families differ."""
    af, saddr, sport = parse_endpoint(src)
    daf, daddr, dport = parse_endpoint(dst)
    _same_family(af, daf, src, dst)
    return af, saddr << 16 | sport, daddr << 16 | dport


def _addresses(src: AddressLike, dst: AddressLike) -> tuple[int, int, int]:
    af, saddr = parse_addr(src)
    daf, daddr = parse_addr(dst)
    _same_family(af, daf, src, dst)
    return af, saddr, daddr


def _same_family(af: int, daf: int, src: object, dst: object) -> None:
    if af != daf or af not in (AF_INET, AF_INET6):
        raise ValueError(f"source and destination of different families: {src!r}, {dst!r}")
