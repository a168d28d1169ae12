"""Fragmentation on output: what a host does with a packet longer than the MTU, or with one that it had put together itself."""

from __future__ import annotations

from ipvs_model.flags import AF_INET
from ipvs_model.packet.checksum import csum16
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import IP_DF, IP_MF, IP_OFFSET, NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING
from ipvs_model.packet.rewrite import complete

IPV6_MIN_MTU = 1280
FRAGMENT_HEADER = 8
IPOPT_COPIED = 0x80


def fragment(p: Packet, mtu: int, *, ident: int = 0) -> list[Packet]:
    """The packets that leave for `p` over a link of that MTU: itself if it fits, else its fragments (DF is no hindrance: IPVS sets ignore_df).

    A reassembled packet leaves with the boundaries it came in if they fit, else cut at the MTU or at its largest fragment, whichever is
    smaller (IPv6: at least 1280). `ident` is the identification of IPv6 fragments, the host's choice. Raises ValueError if the MTU leaves no room for data.
    Source: ip_output.c, ip_do_fragment; ip6_output.c, ip6_fragment.

    >>> [f.length for f in fragment(Packet.udp("203.0.113.5:1", "192.0.2.1:2", bytes(1392)), 1400)]
    [1396, 44]
    """
    p = complete(p)
    if p.af == AF_INET:
        if p.length <= mtu and not p.frag_max_size:
            return [p]
        return _fragment_ipv4(p, mtu)
    if p.length <= mtu and not (p.frag_max_size and p.length > p.frag_max_size):
        return [p]
    return _fragment_ipv6(p, mtu, ident)


def _sizes(p: Packet, total: int, room: int) -> tuple[list[int], bool]:
    """Bytes of data per fragment, and whether the old boundaries were kept. Whatever was put in front of a reassembled packet is in its first fragment."""
    if room < 8 and total > room:
        raise ValueError("the MTU leaves no room for data")
    if p.pieces:
        first = total - sum(p.pieces[1:])
        sizes = [first, *p.pieces[1:]]
        if first > 0 and all(size <= room for size in sizes) and not any(size & 7 for size in sizes[:-1]) and len(sizes) > 1:
            return sizes, True
    sizes = []
    while total > room:
        sizes.append(room & ~7)
        total -= room & ~7
    sizes.append(total)
    return sizes, False


def _fragment_ipv4(p: Packet, mtu: int) -> list[Packet]:
    raw = p.raw
    header = raw[: p.l4]
    word = int.from_bytes(raw[6:8], "big")
    if p.frag_max_size:
        mtu = min(mtu, p.frag_max_size)
    sizes, kept = _sizes(p, p.length - p.l4, mtu - p.l4)
    # a packet whose largest fragments carried DF is cut for path MTU discovery: its new fragments carry DF too
    df = IP_DF if p.frag_max_size and word & IP_DF and not kept else 0
    out = []
    offset = 0
    for number, size in enumerate(sizes):
        more = IP_MF if word & IP_MF or number < len(sizes) - 1 else 0
        data = raw[p.l4 + offset : p.l4 + offset + size]
        out.append(_piece(p, _ipv4_header(header, len(data), df | more | (word & IP_OFFSET) + (offset >> 3)) + data))
        offset += size
        if number == 0:
            header = header[:20] + _copied_options(header[20:])
    return out


def _ipv4_header(header: bytes, length: int, word: int) -> bytes:
    header = header[:2] + (len(header) + length).to_bytes(2, "big") + header[4:6] + word.to_bytes(2, "big") + header[8:10] + bytes(2) + header[12:]
    return header[:10] + csum16(header).to_bytes(2, "big") + header[12:]


def _copied_options(options: bytes) -> bytes:
    """IPv4 options of later fragments: those without the "copied" bit become no-operations (source: ip_options.c, ip_options_fragment)."""
    kept = bytearray(options)
    at = 0
    while at < len(kept) and kept[at] != 0:
        if kept[at] == 1:
            at += 1
            continue
        size = kept[at + 1] if at + 1 < len(kept) else 0
        if size < 2 or at + size > len(kept):
            break
        if not kept[at] & IPOPT_COPIED:
            kept[at : at + size] = bytes((1,)) * size
        at += size
    return bytes(kept)


def _fragment_ipv6(p: Packet, mtu: int, ident: int) -> list[Packet]:
    raw = p.raw
    at, header = unfragmentable(raw)
    if p.frag_max_size:
        mtu = min(mtu, max(p.frag_max_size, IPV6_MIN_MTU))
    sizes, _ = _sizes(p, p.length - header, mtu - header - FRAGMENT_HEADER)
    out = []
    offset = 0
    for number, size in enumerate(sizes):
        more = int(number < len(sizes) - 1)
        data = raw[header + offset : header + offset + size]
        head = bytearray(raw[:header])
        head[4:6] = (header - 40 + FRAGMENT_HEADER + len(data)).to_bytes(2, "big")
        following, head[at] = head[at], NEXTHDR_FRAGMENT
        piece = bytes((following, 0)) + (offset & 0xFFFF | more).to_bytes(2, "big") + ident.to_bytes(4, "big")
        out.append(_piece(p, bytes(head) + piece + data))
        offset += size
    return out


def _piece(p: Packet, raw: bytes) -> Packet:
    return Packet.parse(raw, mark=p.mark, device=p.device, bits=p.bits)


def unfragmentable(raw: bytes) -> tuple[int, int]:
    """Of an IPv6 packet: where the last next-header byte of the unfragmentable part stands, and where that part ends (source: ip6_output.c, ip6_find_1stfragopt)."""
    at, end = 6, 40
    routing = False
    while raw[at] in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST) and len(raw) >= end + 2:
        if raw[at] == NEXTHDR_ROUTING:
            routing = True
        elif raw[at] == NEXTHDR_DEST and routing:
            break
        at, end = end, end + ((raw[end + 1] + 1) << 3)
    return at, min(end, len(raw))
