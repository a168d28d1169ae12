"""The kernel's Jenkins hash, which orders the buckets of the connection table.

source: include/linux/jhash.h
"""

from __future__ import annotations

import struct
from typing import Final

U32: Final = 0xFFFFFFFF
JHASH_INITVAL: Final = 0xDEADBEEF


def _rol(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & U32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & U32) ^ _rol(c, 4)
    c = c + b & U32
    b = (b - a & U32) ^ _rol(a, 6)
    a = a + c & U32
    c = (c - b & U32) ^ _rol(b, 8)
    b = b + a & U32
    a = (a - c & U32) ^ _rol(c, 16)
    c = c + b & U32
    b = (b - a & U32) ^ _rol(a, 19)
    a = a + c & U32
    c = (c - b & U32) ^ _rol(b, 4)
    b = b + a & U32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = (c ^ b) - _rol(b, 14) & U32
    a = (a ^ c) - _rol(c, 11) & U32
    b = (b ^ a) - _rol(a, 25) & U32
    c = (c ^ b) - _rol(b, 16) & U32
    a = (a ^ c) - _rol(c, 4) & U32
    b = (b ^ a) - _rol(a, 14) & U32
    return (c ^ b) - _rol(b, 24) & U32


def jhash_3words(a: int, b: int, c: int, initval: int) -> int:
    """Hash of three 32-bit words.

    >>> hex(jhash_3words(0x0100000a, 0x0787, 6, 0))
    '0x2de1490f'
    """
    base = initval + JHASH_INITVAL + 12
    return _final(a + base & U32, b + base & U32, c + base & U32)


def jhash(data: bytes, initval: int) -> int:
    """Hash of bytes.

    >>> hex(jhash(b"abc", 0)), hex(jhash(b"", 0))
    ('0xe397631', '0xdeadbeef')
    """
    a = b = c = JHASH_INITVAL + len(data) + initval & U32
    if not data:
        return c
    position = 0
    while len(data) - position > 12:
        x, y, z = struct.unpack_from("<3I", data, position)
        a, b, c = _mix(a + x & U32, b + y & U32, c + z & U32)
        position += 12
    x, y, z = struct.unpack("<3I", data[position:].ljust(12, b"\0"))
    return _final(a + x & U32, b + y & U32, c + z & U32)
