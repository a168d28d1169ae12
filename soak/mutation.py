"""Small injuries to the bytes of a packet."""

from __future__ import annotations

import random
from typing import Final

from ipvs_model.packet.checksum import csum16

EDGES: Final = (0, 1, 2, 4, 5, 15, 0x3F, 0x40, 0x45, 0x4F, 0x60, 0x7F, 0x80, 0xF0, 0xFE, 0xFF)
#: header bytes that decide much: version, lengths, fragment word, TTL, protocol (IPv4 and IPv6), first bytes of the transport header
SENSITIVE: Final = (0, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24, 25, 28, 29, 32, 33, 36, 37, 40, 41, 42, 43, 48, 49, 52, 53)


def mutate(rng: random.Random, raw: bytes, other: bytes) -> bytes:
    """``raw`` with one to four injuries; ``other`` is a packet to take pieces from. In most cases an IPv4 header checksum is made right again."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4))):
        size = len(data)
        at = rng.randrange(size + 1)
        what = rng.randrange(10)
        if what == 0:
            del data[at:]
        elif what == 1 and size:
            data[min(at, size - 1)] = rng.choice(EDGES)
        elif what in (2, 3) and size:
            data[min(rng.choice(SENSITIVE), size - 1)] = rng.choice(EDGES)
        elif what == 4 and size:
            data[min(at, size - 1)] ^= 1 << rng.randrange(8)
        elif what == 5:
            data += rng.randbytes(rng.choice((1, 2, 7, 40)))
        elif what == 6:
            del data[at : at + rng.choice((1, 2, 4, 20))]
        elif what == 7:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
        elif what == 8:
            start = rng.randrange(len(other) + 1)
            data[at:] = other[start:]
        elif size > 4:
            _length(data, rng.choice((0, 19, 20, size - 1, size + 1, 0xFFFF, rng.randrange(0x10000))))
    if rng.random() < 0.3:
        _length(data, len(data))
    return refreshed(bytes(data)) if rng.random() < 0.85 else bytes(data)


def _length(data: bytearray, length: int) -> None:
    """Write a length into the IP header."""
    if len(data) > 6:
        if data[0] >> 4 == 6:
            data[4:6] = (max(length - 40, 0) & 0xFFFF).to_bytes(2)
        else:
            data[2:4] = (length & 0xFFFF).to_bytes(2)


def truncations(raw: bytes) -> list[bytes]:
    """A packet cut off at every offset; of every second one the header states the length that is left."""
    out = []
    for size in range(len(raw) + 1):
        data = bytearray(raw[:size])
        if size % 2:
            _length(data, size)
        out.append(refreshed(bytes(data)))
    return out


def refreshed(raw: bytes) -> bytes:
    """The same with a right IPv4 header checksum, if the header is there."""
    if len(raw) < 20 or raw[0] >> 4 != 4:
        return raw
    size = (raw[0] & 15) * 4
    if not 20 <= size <= len(raw):
        return raw
    return raw[:10] + csum16(raw[:10] + bytes(2) + raw[12:size]).to_bytes(2) + raw[12:]
