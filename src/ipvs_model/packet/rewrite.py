"""Rewriting of packets: TTL, NAT of data packets and of ICMP errors, and the checksum tests that go with it. Every function returns a new packet."""

from __future__ import annotations

from struct import pack_into

from ipvs_model.flags import AF_INET, IP_VS_DIR_INPUT, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, PKT_PARTIAL
from ipvs_model.packet.checksum import TRANSPORT_CHECKSUMS, csum16, pseudo_csum, pseudo_sum, sctp_csum, update_csum
from ipvs_model.packet.fields import LAZY_HEADER, LAZY_NAT
from ipvs_model.packet.packet import Packet
from ipvs_model.packet.parse import IP_OFFSET, PORT_PROTOCOLS
from ipvs_model.packet.patch import set_header
from ipvs_model.packet.view import IpHdr


def dec_ttl(p: Packet) -> Packet:
    """The packet with TTL or hop limit one lower (it must be at least 1); the IPv4 header checksum is right afterwards (source: ip_vs_xmit.c, decrement_ttl)."""
    q = p.clone()
    if p.length >= (20 if p.af == AF_INET else 40):
        q.ttl -= 1
        q.lazy |= LAZY_HEADER
    return q


def quoted_dec_ttl(p: Packet) -> Packet:
    """The same for an error's quotation: the checksum is updated, so a wrong one stays wrong (source: ip.h, ip_decrease_ttl).

    A host that writes into the options of an arriving packet leaves a wrong one there.
    """
    if p.af != AF_INET or p.l4 <= 20:
        return dec_ttl(p)
    buffer = bytearray(p.raw)
    buffer[8] -= 1
    check = (buffer[10] << 8 | buffer[11]) + 0x100
    pack_into("!H", buffer, 10, check + (check >= 0xFFFF) & 0xFFFF)
    return p.with_raw(bytes(buffer))


def translated(p: Packet, src: int, dst: int, ttl: int, bits: int) -> Packet:
    """A plain packet with other endpoints and TTL; the bytes follow when they are wanted. The quick road of dnat and snat."""
    q = Packet()
    q.af = p.af
    q.proto = p.proto
    q.src = src
    q.dst = dst
    q.flags = p.flags
    q.length = p.length
    q.ttl = ttl
    q.l4 = p.l4
    q.df = p.df
    q.lane = p.lane
    q.mark = p.mark
    q.device = p.device
    q.bits = bits
    q.rare = p.rare
    q.store = p.store
    q.lazy = p.lazy | LAZY_NAT
    return q


def dnat(
    p: Packet, endpoint: int, *, dec_ttl: bool = False, pseudo: tuple[int, int] | None = None, changed: bool = False
) -> Packet | None:
    """The packet with another destination endpoint; None if its TCP, UDP or SCTP header is incomplete: the handler refuses.

    `pseudo` is the pair of addresses for a checksum computed from scratch (default: those of the new packet); `changed` says that an application
    changed the payload, so that the checksum is computed from scratch (source: ip_vs_proto_tcp.c, tcp_dnat_handler and its sisters; ip_vs_xmit.c, ip_vs_nat_xmit).
    """
    ttl = p.ttl - dec_ttl
    if p.lane and not changed and pseudo is None and not p.bits & PKT_PARTIAL:
        return translated(p, p.src, endpoint, ttl, p.bits)
    return _translate(p, p.src, endpoint, ttl, pseudo, changed)


def snat(
    p: Packet, endpoint: int, *, dec_ttl: bool = False, pseudo: tuple[int, int] | None = None, changed: bool = False
) -> Packet | None:
    """The packet with another source endpoint; the rest as for dnat (source: ip_vs_proto_tcp.c, tcp_snat_handler and its sisters; ip_vs_core.c, handle_response)."""
    ttl = p.ttl - dec_ttl
    if p.lane and not changed and pseudo is None and not p.bits & PKT_PARTIAL:
        return translated(p, endpoint, p.dst, ttl, p.bits)
    return _translate(p, endpoint, p.dst, ttl, pseudo, changed)


def _translate(p: Packet, src: int, dst: int, ttl: int, pseudo: tuple[int, int] | None, changed: bool) -> Packet | None:
    if p.length < (20 if p.af == AF_INET else 40):
        return None
    buffer = bytearray(p.raw)
    set_header(buffer, p.af, src >> 16, dst >> 16, ttl)
    if p.proto in TRANSPORT_CHECKSUMS and not is_later_fragment(p):
        field, header = TRANSPORT_CHECKSUMS[p.proto]
        if p.l4_len < header:
            return None
        if p.proto == IPPROTO_SCTP:
            _translate_sctp(p, buffer, src, dst, changed)
        else:
            _translate_ports(p, buffer, p.l4 + field, src, dst, pseudo or (src >> 16, dst >> 16), changed)
    return p.with_raw(bytes(buffer))


def _translate_ports(p: Packet, buffer: bytearray, field: int, src: int, dst: int, pseudo: tuple[int, int], changed: bool) -> None:
    """Ports and checksum of TCP and UDP (spec/40, TCP and UDP checksum rules)."""
    check = buffer[field] << 8 | buffer[field + 1]
    pack_into("!HH", buffer, p.l4, src & 0xFFFF, dst & 0xFFFF)
    if p.bits & PKT_PARTIAL:  # the ports are summed at completion
        check = (check + (src >> 16) + (dst >> 16) - p.saddr - p.daddr) % 65535 or 0xFFFF
    elif changed or (p.proto == IPPROTO_UDP and not check):
        pack_into("!H", buffer, field, 0)
        check = pseudo_csum(*pseudo, p.proto, bytes(buffer[p.l4 :]))
    else:
        check = update_csum(check, p.src + p.dst, src + dst)
    if p.proto == IPPROTO_UDP:
        check = check or 0xFFFF
    pack_into("!H", buffer, field, check)


def _translate_sctp(p: Packet, buffer: bytearray, src: int, dst: int, changed: bool) -> None:
    """Ports and CRC32c of SCTP: only if a port really changes; then a wrong CRC becomes right (spec/40, SCTP checksum rule)."""
    if changed or p.bits & PKT_PARTIAL or (src ^ p.src | dst ^ p.dst) & 0xFFFF:
        pack_into("!HH", buffer, p.l4, src & 0xFFFF, dst & 0xFFFF)
        buffer[p.l4 + 8 : p.l4 + 12] = sctp_csum(bytes(buffer[p.l4 :]))


def is_later_fragment(p: Packet) -> bool:
    """A fragment that does not begin with the transport header."""
    if p.fragoffs:
        return True
    return p.frag and p.af == AF_INET and int.from_bytes(p.raw[6:8], "big") & IP_OFFSET != 0


def nat_icmp(p: Packet, iph: IpHdr, direction: int, endpoint: int, *, dec_ttl: bool = False) -> Packet | None:
    """An ICMP error with the addresses of its flow translated, outside and in the packet it quotes.

    `iph` is the view of the quoted header. IP_VS_DIR_INPUT (to the real server): outer destination and quoted source become `endpoint`;
    IP_VS_DIR_OUTPUT (to the client): outer source and quoted destination. None if the ICMP header, the quoted header or its ports are incomplete.
    Source: ip_vs_core.c, ip_vs_nat_icmp, ip_vs_nat_icmp_v6.
    """
    ports = iph.protocol in PORT_PROTOCOLS and not iph.fragoffs
    inner = iph.off + 20 if iph.af == AF_INET else iph.off + 40
    if p.length < max(p.l4 + 8, inner, iph.len + 4 if ports else iph.len):
        return None
    addr, port = endpoint >> 16, endpoint & 0xFFFF
    buffer = bytearray(p.raw)
    to_server = direction == IP_VS_DIR_INPUT
    saddr, daddr = (p.saddr, addr) if to_server else (addr, p.daddr)
    set_header(buffer, p.af, saddr, daddr, p.ttl - dec_ttl)
    if iph.af == AF_INET:
        pack_into("!I", buffer, iph.off + (12 if to_server else 16), addr)
        pack_into("!H", buffer, iph.off + 10, 0)
        pack_into("!H", buffer, iph.off + 10, csum16(bytes(buffer[iph.off : iph.len])))
    else:
        start = iph.off + (8 if to_server else 24)
        buffer[start : start + 16] = addr.to_bytes(16, "big")
    if ports:
        pack_into("!H", buffer, iph.len + (0 if to_server else 2), port)
    pack_into("!H", buffer, p.l4 + 2, 0)
    message = bytes(buffer[p.l4 :])
    pack_into("!H", buffer, p.l4 + 2, pseudo_csum(saddr, daddr, IPPROTO_ICMPV6, message) if p.proto == IPPROTO_ICMPV6 else csum16(message))
    return p.with_raw(bytes(buffer))


# --- checksum tests -----------------------------------------------------------------------------------------------------
def transport_csum_ok(p: Packet) -> bool:
    """The checksum of TCP, UDP (0 passes over IPv4 and IPv6), SCTP, ICMP or ICMPv6 is right; False if there is no complete header; True for other protocols."""
    segment = p.l4_bytes
    if p.proto in TRANSPORT_CHECKSUMS:
        field, header = TRANSPORT_CHECKSUMS[p.proto]
        if len(segment) < header:
            return False
        if p.proto == IPPROTO_SCTP:
            return segment[8:12] == sctp_csum(segment)
        if p.proto == IPPROTO_UDP and segment[field : field + 2] == bytes(2):
            return True
        return pseudo_csum(p.saddr, p.daddr, p.proto, segment) == 0
    return icmp_csum_ok(p)


def icmp_csum_ok(p: Packet) -> bool:
    """The checksum of the whole ICMP or ICMPv6 message is right; True for other protocols (source: ip_vs_core.c, ip_vs_checksum_complete)."""
    message = p.l4_bytes
    if p.proto == IPPROTO_ICMPV6:
        return len(message) >= 4 and pseudo_csum(p.saddr, p.daddr, IPPROTO_ICMPV6, message) == 0
    return p.proto != 1 or (len(message) >= 4 and csum16(message) == 0)


def csum_check(p: Packet) -> bool:
    """The test before an application sees a packet: as transport_csum_ok, but locally made and partial packets pass (source: ip_vs_proto_tcp.c, tcp_csum_check)."""
    if p.proto == IPPROTO_UDP and p.l4_len < 8:
        return False
    return p.device is None or p.bits & PKT_PARTIAL != 0 or transport_csum_ok(p)


def complete(p: Packet) -> Packet:
    """The packet as it appears on a wire: a transport checksum left partial is computed, other packets are returned as they are."""
    if not p.bits & PKT_PARTIAL or not p.has_ports:
        return p
    q = p.with_raw(with_checksum(p.raw, p.l4, p.proto, p.saddr, p.daddr))
    q.bits &= ~PKT_PARTIAL
    return q


def with_checksum(raw: bytes, l4: int, proto: int, saddr: int, daddr: int) -> bytes:
    """The bytes of a packet with its TCP, UDP or SCTP checksum computed from scratch (UDP 0 becomes 0xffff); unchanged if the header is incomplete."""
    field, header = TRANSPORT_CHECKSUMS[proto]
    if len(raw) < l4 + header:
        return raw
    if proto == IPPROTO_SCTP:
        check = sctp_csum(raw[l4:])
    else:
        segment = raw[l4 : l4 + field] + bytes(2) + raw[l4 + field + 2 :]
        value = pseudo_csum(saddr, daddr, proto, segment)
        check = (value or (0xFFFF if proto == IPPROTO_UDP else 0)).to_bytes(2, "big")
    return raw[: l4 + field] + check + raw[l4 + field + len(check) :]


# --- payload, for applications ------------------------------------------------------------------------------------------
def replace_payload(p: Packet, payload: bytes) -> Packet:
    """A plain TCP or UDP packet with another payload: lengths and checksums follow; a UDP checksum of 0 stays 0 (source: nf_nat_helper.c).

    Of a partial packet the pseudo-header sum follows. Raises ValueError if the packet would be longer than 65535 bytes.
    """
    raw = p.raw
    header = p.l4 + (raw[p.l4 + 12] >> 4 << 2 if p.proto == IPPROTO_TCP else 8)
    buffer = bytearray(raw[:header] + payload)
    length = len(buffer) if p.af == AF_INET else len(buffer) - 40
    if length > 0xFFFF:
        raise ValueError(f"packet would have {length} bytes, at most 65535")
    pack_into("!H", buffer, 2 if p.af == AF_INET else 4, length)
    set_header(buffer, p.af, p.saddr, p.daddr, p.ttl)
    field = p.l4 + TRANSPORT_CHECKSUMS[p.proto][0]
    check = buffer[field : field + 2]
    if p.proto == IPPROTO_UDP:
        pack_into("!H", buffer, p.l4 + 4, len(buffer) - p.l4)
    if p.bits & PKT_PARTIAL:
        pack_into("!H", buffer, field, pseudo_sum(p.saddr, p.daddr, p.proto, len(buffer) - p.l4))
    elif p.proto == IPPROTO_TCP or check != bytes(2):
        return p.with_raw(with_checksum(bytes(buffer), p.l4, p.proto, p.saddr, p.daddr))
    return p.with_raw(bytes(buffer))


def set_seq_ack(p: Packet, seq: int, ack: int) -> Packet:
    """A TCP packet with other sequence and acknowledgement numbers (modulo 2**32); the checksum is NOT touched, as in the kernel (source: ip_vs_app.c, vs_fix_seq)."""
    buffer = bytearray(p.raw)
    pack_into("!II", buffer, p.l4 + 4, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    return p.with_raw(bytes(buffer))
