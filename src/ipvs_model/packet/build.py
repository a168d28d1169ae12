"""From fields to the bytes of an IP packet, with right lengths and checksums."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from ipvs_model.flags import AF_INET, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.packet.checksum import csum16, pseudo_csum, sctp_csum, words_sum

#: letters of the TCP flags, lowest bit first
TCP_FLAG_LETTERS: Final = "FSRPAUEC"

#: what a packet made by Packet.tcp keeps until its bytes are wanted: flags, seq, ack, window, options, payload, TOS, id
TcpParts = tuple[int, int, int, int, bytes, bytes, int, int]
#: likewise Packet.tcp_between: flags, payload
FewParts = tuple[int, bytes]
#: likewise Packet.udp: payload, TOS, id, "with checksum"
UdpParts = tuple[bytes, int, int, bool]

_IPV4: Final = Struct("!BBHHHBBHII")
_IPV6: Final = Struct("!IHBB")
_TCP: Final = Struct("!HHIIBBHHH")
#: both headers without options, by the words that are summed up
_pack_ipv4_tcp: Final = Struct("!HHHHHHIIHHIIHHHxx").pack
#: the same of a segment of FewParts without payload: the first eight bytes, TTL to ports, sequence numbers to window, checksum
_pack_bare: Final = Struct("!8sHHIIHH12sHxx").pack
_UDP: Final = Struct("!HHHH")


def tcp_flags(flags: str | int) -> int:
    """The flags byte of letters such as "SA", or of an int. Raises ValueError.

    >>> tcp_flags("SA")
    18
    """
    if isinstance(flags, int):
        return check_range("TCP flags", flags, 8)
    value = 0
    for letter in flags:
        position = TCP_FLAG_LETTERS.find(letter)
        if position < 0:
            raise ValueError(f"unknown TCP flag {letter!r} in {flags!r}")
        value |= 1 << position
    return value


def check_range(name: str, value: int, bits: int) -> int:
    """The value itself if it fits into that many bits. Raises ValueError."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} out of range: {value}")
    return value


def ipv4_header(
    protocol: int, saddr: int, daddr: int, length: int, *, ttl: int = 64, tos: int = 0, ident: int = 0, frag: int = 0, options: bytes = b""
) -> bytes:
    """An IPv4 header with its checksum; `length` is that of what follows, `frag` the whole 16-bit fragment word, options are padded to words.

    A packet too long for the length field has 0 there (source: ip.h, iph_set_totlen).
    """
    options += bytes(-len(options) % 4)
    ihl = 20 + len(options)
    if ihl > 60:
        raise ValueError(f"{len(options)} bytes of IPv4 options, at most 40")
    total = ihl + length if ihl + length <= 0xFFFF else 0
    header = _IPV4.pack(0x40 | ihl >> 2, tos, total, ident, frag, ttl, protocol, 0, saddr, daddr) + options
    return header[:10] + csum16(header).to_bytes(2, "big") + header[12:]


def ipv6_header(protocol: int, saddr: int, daddr: int, length: int, *, ttl: int = 64, tos: int = 0) -> bytes:
    """An IPv6 header with flow label 0; `length` is the payload length, `tos` the traffic class, `ttl` the hop limit; too long a payload is stated as 0."""
    return _IPV6.pack(6 << 28 | tos << 20, length if length <= 0xFFFF else 0, protocol, ttl) + saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big")


def ip_packet(
    af: int,
    protocol: int,
    saddr: int,
    daddr: int,
    body: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    ident: int = 0,
    df: bool = False,
    options: bytes = b"",
) -> bytes:
    """A whole packet of either family around a transport header and its data."""
    if af == AF_INET:
        return ipv4_header(protocol, saddr, daddr, len(body), ttl=ttl, tos=tos, ident=ident, frag=0x4000 if df else 0, options=options) + body
    return ipv6_header(protocol, saddr, daddr, len(body), ttl=ttl, tos=tos) + body


def tcp_segment(src: int, dst: int, flags: int, seq: int, ack: int, window: int, options: bytes, payload: bytes) -> bytes:
    """A TCP segment between two endpoints with its checksum (same sum for both families); options are padded to words."""
    options += bytes(-len(options) % 4)
    if len(options) > 40:
        raise ValueError(f"{len(options)} bytes of TCP options, at most 40")
    offset = (20 + len(options)) << 2
    rest = options + payload
    segment = _TCP.pack(src & 0xFFFF, dst & 0xFFFF, seq, ack, offset, flags, window, 0, 0) + rest
    check = pseudo_csum(src >> 16, dst >> 16, IPPROTO_TCP, segment)
    return _TCP.pack(src & 0xFFFF, dst & 0xFFFF, seq, ack, offset, flags, window, check, 0) + rest


def udp_datagram(src: int, dst: int, payload: bytes, checksum: bool = True) -> bytes:
    """A UDP datagram between two endpoints, with a checksum (0 is sent as 0xffff) or with the field 0."""
    length = 8 + len(payload)
    datagram = _UDP.pack(src & 0xFFFF, dst & 0xFFFF, length, 0) + payload
    if not checksum:
        return datagram
    check = pseudo_csum(src >> 16, dst >> 16, IPPROTO_UDP, datagram) or 0xFFFF
    return datagram[:6] + check.to_bytes(2, "big") + payload


def sctp_packet(src: int, dst: int, chunks: Iterable[tuple[int, int, bytes]], vtag: int) -> bytes:
    """An SCTP packet: chunks are (type, flags, value), each padded to words; the CRC32c is right."""
    body = b""
    for kind, flags, value in chunks:
        chunk = bytes((kind, flags)) + (4 + len(value)).to_bytes(2, "big") + value
        body += chunk + bytes(-len(chunk) % 4)
    head = (src & 0xFFFF).to_bytes(2, "big") + (dst & 0xFFFF).to_bytes(2, "big") + vtag.to_bytes(4, "big")
    return head + sctp_csum(head + bytes(4) + body) + body


def icmp_message(kind: int, code: int, rest: bytes, payload: bytes) -> bytes:
    """An ICMP message: type, code, checksum, the second word of the header, data."""
    message = bytes((kind, code, 0, 0)) + rest + payload
    return message[:2] + csum16(message).to_bytes(2, "big") + message[4:]


def icmpv6_message(saddr: int, daddr: int, kind: int, code: int, rest: bytes, payload: bytes) -> bytes:
    """An ICMPv6 message: as `icmp_message`, the checksum covers the addresses too."""
    message = bytes((kind, code, 0, 0)) + rest + payload
    return message[:2] + pseudo_csum(saddr, daddr, 58, message).to_bytes(2, "big") + message[4:]


def usual_tcp_packet(af: int, src: int, dst: int, ttl: int, df: bool, parts: FewParts) -> bytes:
    """Bytes of a packet made by Packet.tcp_between."""
    flags, payload = parts
    if payload or af != AF_INET or flags > 255:
        return tcp_packet(af, src, dst, ttl, df, _all_parts(flags, payload))
    saddr, daddr, life = src >> 16, dst >> 16, TTL_AND_TCP[ttl]
    start, rest, head, check = BARE_DF[flags] if df else BARE[flags]
    head = (head - life - saddr - daddr) % 65535
    return _pack_bare(start, life, head, saddr, daddr, src & 0xFFFF, dst & 0xFFFF, rest, (check - src - dst) % 65535)


def tcp_packet(af: int, src: int, dst: int, ttl: int, df: bool, parts: TcpParts) -> bytes:
    """Bytes of a packet made by Packet.tcp."""
    flags, seq, ack, window, options, payload, tos, ident = parts
    length = 40 + len(payload)
    if af == AF_INET and not options and length <= 0xFFFF:
        saddr, daddr, frag = src >> 16, dst >> 16, 0x4000 if df else 0
        first, life, offset = 0x4500 | tos, ttl << 8 | IPPROTO_TCP, 0x5000 | flags
        head = -(first + length + ident + frag + life + saddr + daddr) % 65535
        # an endpoint counts as much as its address and its port; large numbers come last, for sums of small ones are made faster
        check = length + (IPPROTO_TCP - 20) + window + offset + ack + seq + src + dst
        if payload:
            check += words_sum(payload)
        headers = _pack_ipv4_tcp(first, length, ident, frag, life, head, saddr, daddr, src & 0xFFFF, dst & 0xFFFF, seq, ack, offset, window, -check % 65535)
        return headers + payload if payload else headers
    segment = tcp_segment(src, dst, flags, seq, ack, window, options, payload)
    return ip_packet(af, IPPROTO_TCP, src >> 16, dst >> 16, segment, ttl=ttl, tos=tos, ident=ident, df=df)


def _all_parts(flags: int, payload: bytes) -> TcpParts:
    """FewParts with the defaults of Packet.tcp."""
    return flags, 1000, 0, 65535, b"", payload, 0, 1


def _bare(df: bool, flags: int) -> tuple[bytes, bytes, int, int]:
    """What all segments of FewParts without payload have in common: bytes, and both checksums with nothing else summed up.

    They are so much larger that they stay positive when addresses and endpoints are taken off: remainders of negative numbers are slow.
    """
    raw = tcp_packet(AF_INET, 0, 0, 0, df, _all_parts(flags, b""))
    return raw[:8], raw[24:36], int.from_bytes(raw[10:12], "big") + IPPROTO_TCP + (65535 << 18), int.from_bytes(raw[36:38], "big") + (65535 << 34)


TTL_AND_TCP: Final = tuple(ttl << 8 | IPPROTO_TCP for ttl in range(256))  #: a look into a tuple costs less than two operators
BARE: Final = tuple(_bare(False, flags) for flags in range(256))  #: by flags, without DF
BARE_DF: Final = tuple(_bare(True, flags) for flags in range(256))


def udp_packet(af: int, src: int, dst: int, ttl: int, df: bool, parts: UdpParts) -> bytes:
    """Bytes of a packet made by Packet.udp."""
    payload, tos, ident, checksum = parts
    return ip_packet(af, IPPROTO_UDP, src >> 16, dst >> 16, udp_datagram(src, dst, payload, checksum), ttl=ttl, tos=tos, ident=ident, df=df)
