"""Bytes of a packet whose addresses, ports or TTL were changed, made from the bytes it had before."""

from __future__ import annotations

from struct import Struct, pack_into
from typing import Final

from ipvs_model.flags import AF_INET, IPPROTO_TCP
from ipvs_model.packet.checksum import TRANSPORT_CHECKSUMS, csum16, pseudo_csum, update_csum, words_sum

#: the end of an IPv4 header without options and the ports: TTL, protocol, header checksum, addresses, ports
_TAIL: Final = Struct("!BBHIIHH")


def set_header(buffer: bytearray, af: int, saddr: int, daddr: int, ttl: int) -> None:
    """Write addresses and TTL into the IP header of `buffer`; the IPv4 header checksum is computed from scratch (source: ip_send_check)."""
    if af == AF_INET:
        buffer[8] = ttl
        pack_into("!HII", buffer, 10, 0, saddr, daddr)
        pack_into("!H", buffer, 10, csum16(bytes(buffer[: (buffer[0] & 15) << 2])))
    else:
        buffer[7] = ttl
        buffer[8:24] = saddr.to_bytes(16, "big")
        buffer[24:40] = daddr.to_bytes(16, "big")


def patched(raw: bytes, af: int, proto: int, src: int, dst: int, ttl: int, l4: int, nat: bool) -> bytes:
    """`raw` with other endpoints and TTL.

    With `nat` ports and the TCP or UDP checksum follow (`raw` holds the whole fixed header at l4): incrementally, or from scratch
    for UDP without checksum (source: ip_vs_proto_tcp.c, tcp_fast_csum_update; ip_vs_proto_udp.c, udp_dnat_handler).
    """
    if not nat:
        buffer = bytearray(raw)
        set_header(buffer, af, src >> 16, dst >> 16, ttl)
        return bytes(buffer)
    field = l4 + TRANSPORT_CHECKSUMS[proto][0]
    check = raw[field] << 8 | raw[field + 1]
    if af == AF_INET and l4 == 20:
        saddr, daddr = src >> 16, dst >> 16
        header = -(int.from_bytes(raw[:8], "big") + (ttl << 8 | proto) + saddr + daddr) % 65535
        start = raw[:8] + _TAIL.pack(ttl, proto, header, saddr, daddr, src & 0xFFFF, dst & 0xFFFF)
        old = int.from_bytes(raw[12:24], "big")
    else:
        buffer = bytearray(raw[: l4 + 4])
        set_header(buffer, af, src >> 16, dst >> 16, ttl)
        pack_into("!HH", buffer, l4, src & 0xFFFF, dst & 0xFFFF)
        start = bytes(buffer)
        old = words_sum(raw[12:20] if af == AF_INET else raw[8:40]) + words_sum(raw[l4 : l4 + 4])
    if proto == IPPROTO_TCP:
        check = update_csum(check, old, src + dst)
    elif check:
        check = update_csum(check, old, src + dst) or 0xFFFF
    else:
        check = pseudo_csum(src >> 16, dst >> 16, proto, start[l4:] + raw[l4 + 4 :]) or 0xFFFF
    return start + raw[l4 + 4 : field] + check.to_bytes(2, "big") + raw[field + 2 :]
