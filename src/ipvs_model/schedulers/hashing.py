"""Hash functions of the hashing schedulers, bit for bit.

source: ip_vs_dh.c, ip_vs_sh.c, ip_vs_mh.c, ip_vs_lblc.c (…_hashkey); include/linux/hash.h; lib/siphash.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import AF_INET, IP_VS_HDR_INVERSE, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service

GOLDEN_RATIO_32: Final = 0x61C88647
PORT_PROTOCOLS: Final = frozenset((IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP))
U32: Final = 0xFFFFFFFF
U64: Final = 0xFFFFFFFFFFFFFFFF


def fold(af: int, addr: int) -> int:
    """An address as 32 bits: IPv4 as it is, IPv6 the XOR of its four words.

    >>> hex(fold(10, 0x20010db8000000000000000000000001))
    '0x20010db9'
    """
    if af == AF_INET:
        return addr
    return addr >> 96 ^ addr >> 64 & U32 ^ addr >> 32 & U32 ^ addr & U32


def hash_32(value: int, bits: int) -> int:
    """A bucket number of ``bits`` bits for a 32-bit number.

    >>> hash_32(0xC0A8010A, 8), hash_32(0xC0A8010A, 10)
    (248, 995)
    """
    return (value * GOLDEN_RATIO_32 & U32) >> (32 - bits)


def client_key(svc: Service, iph: IpHdr, port_flag: int) -> int:
    """What sh and mh hash: the client's address folded, plus the client's port if the service has ``port_flag``.

    A scheduled ICMP error shows the embedded packet, which travels to the client: the client is its destination. A port that
    cannot be read, or of a protocol without ports, counts as 0.
    """
    if iph.hdr_flags & IP_VS_HDR_INVERSE:
        addr, port = iph.daddr, iph.dport
    else:
        addr, port = iph.saddr, iph.sport
    if port and svc.flags & port_flag and iph.protocol in PORT_PROTOCOLS:
        return (fold(svc.af, addr) + port) & U32
    return fold(svc.af, addr)


def dest_key(svc: Service, dest: Dest) -> int:
    """What mh hashes of a destination: address and port, folded by the family of the *service*.

    An IPv6 destination of an IPv4 service counts with the first 32 bits of its address.
    """
    addr = dest.addr
    if svc.af == AF_INET and dest.af != AF_INET:
        addr >>= 96
    return (fold(svc.af, addr) + dest.port) & U32


def hsiphash_u32(value: int, key: int) -> int:
    """SipHash-1-3 of a 32-bit number in little-endian order under the 128-bit key (key, key); the low 32 bits of the result.

    >>> hex(hsiphash_u32(0x0A000001, 2654435761))
    '0x3080ce4'
    """
    block = 4 << 56 | value  # the length of the message in the top byte
    v0 = 0x736F6D6570736575 ^ key
    v1 = 0x646F72616E646F6D ^ key
    v2 = 0x6C7967656E657261 ^ key
    v3 = 0x7465646279746573 ^ key ^ block
    for number in range(4):
        v0 = v0 + v1 & U64
        v1 = (v1 << 13 & U64 | v1 >> 51) ^ v0
        v0 = v0 << 32 & U64 | v0 >> 32
        v2 = v2 + v3 & U64
        v3 = (v3 << 16 & U64 | v3 >> 48) ^ v2
        v0 = v0 + v3 & U64
        v3 = (v3 << 21 & U64 | v3 >> 43) ^ v0
        v2 = v2 + v1 & U64
        v1 = (v1 << 17 & U64 | v1 >> 47) ^ v2
        v2 = v2 << 32 & U64 | v2 >> 32
        if number == 0:
            v0 ^= block
            v2 ^= 0xFF
    return (v0 ^ v1 ^ v2 ^ v3) & U32
