"""Internet checksums, their incremental update, and the CRC32c of SCTP.

Everything rests on one fact: 2**16 leaves the remainder 1 when divided by 65535, so the one's-complement sum of the 16-bit words of a number is
the number modulo 65535. A whole address, an endpoint (``address << 16 | port``) or a whole segment is therefore added as one int.
"""

from __future__ import annotations

from typing import Final

from ipvs_model.flags import IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

#: transport protocol → offset of its checksum in the transport header, bytes of the fixed header (source: ip_vs_proto_*.c, *_snat_handler)
TRANSPORT_CHECKSUMS: Final = {IPPROTO_TCP: (16, 20), IPPROTO_UDP: (6, 8), IPPROTO_SCTP: (8, 12)}


def words_sum(data: bytes) -> int:
    """A number congruent to the one's-complement sum of the bytes as 16-bit words (an odd last byte is padded with zero).

    >>> hex(words_sum(bytes.fromhex("00010002")) % 65535)
    '0x3'
    """
    total = int.from_bytes(data, "big")
    return total << 8 if len(data) & 1 else total


def csum16(data: bytes) -> int:
    """The Internet checksum of the bytes: 0…0xFFFF, 0xFFFF only if all of them are zero (source: lib/checksum.c, ip_compute_csum).

    >>> hex(csum16(bytes.fromhex("450000280001400040060000cb007105c0000201")))
    '0x3cc8'
    """
    total = words_sum(data)
    return -total % 65535 if total else 0xFFFF


def pseudo_csum(saddr: int, daddr: int, protocol: int, segment: bytes) -> int:
    """Checksum over pseudo header and transport bytes, 0…0xFFFE; a right checksum in the field gives 0 (source: csum_tcpudp_magic, csum_ipv6_magic).

    Works for both families: the words of an IPv4 and an IPv6 pseudo header have the same sum as these numbers.
    """
    return -(saddr + daddr + protocol + len(segment) + words_sum(segment)) % 65535


def pseudo_sum(saddr: int, daddr: int, protocol: int, length: int) -> int:
    """The uncomplemented pseudo-header sum, 1…0xFFFF: what the field of a partial checksum holds (spec/40, TCP and UDP checksum rules)."""
    return (saddr + daddr + protocol + length) % 65535 or 0xFFFF


def update_csum(check: int, old: int, new: int) -> int:
    """A checksum after the summed bytes changed from `old` to `new`, both given as numbers (addresses, endpoints, words); 0…0xFFFE.

    A wrong checksum stays wrong by the same difference (source: ip_vs.h, ip_vs_check_diff4, ip_vs_check_diff16; ip_vs_proto_tcp.c, tcp_fast_csum_update).

    >>> old, new = 0xCB00710A << 16 | 80, 0x0A000002 << 16 | 8080
    >>> hex(update_csum(0xC79B, old, new))
    '0xda64'
    """
    return (check + old - new) % 65535


def _crc32c_tables() -> tuple[tuple[int, ...], ...]:
    first = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        first.append(byte)
    tables = [tuple(first)]
    for _ in range(3):
        tables.append(tuple(first[value & 0xFF] ^ value >> 8 for value in tables[-1]))
    return tuple(tables)


#: reflected Castagnoli polynomial; table k advances a byte by k further bytes, so that four bytes go in one step
CRC32C_TABLES: Final = _crc32c_tables()


def crc32c(data: bytes) -> int:
    """CRC32c (Castagnoli) of the bytes (source: lib/crc32.c; net/sctp/checksum.h).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    t0, t1, t2, t3 = CRC32C_TABLES
    crc = 0xFFFFFFFF
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        crc ^= int.from_bytes(data[i : i + 4], "little")
        crc = t3[crc & 0xFF] ^ t2[crc >> 8 & 0xFF] ^ t1[crc >> 16 & 0xFF] ^ t0[crc >> 24]
    for byte in data[whole:]:
        crc = t0[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def sctp_csum(segment: bytes) -> bytes:
    """The four checksum bytes, as stored, of an SCTP packet (at least 12 bytes) whose field is taken as 0."""
    return crc32c(segment[:8] + bytes(4) + segment[12:]).to_bytes(4, "little")
