"""The order in which ipvsadm prints services and destinations.

The comparison subtracts in 32 bits with wrap-around, so that it is not transitive: what comes out depends on the sorting algorithm, which is the C library's merge sort.

source: libipvs.c, ipvs_cmp_services, ipvs_cmp_dests; qsort of the C library
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ipvs_model.control import DestEntry, ServiceEntry
from ipvs_model.flags import AF_INET

T = TypeVar("T")


def difference(a: int, b: int) -> int:
    """a - b as a signed 32-bit number.

    >>> difference(0x0a000001, 0xac100001) > 0
    True
    """
    return (a - b + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def _words(af: int, addr: int) -> tuple[int, ...]:
    """The four words of an address; the last three of an IPv4 one are zero."""
    return (addr, 0, 0, 0) if af == AF_INET else (addr >> 96, addr >> 64 & 0xFFFFFFFF, addr >> 32 & 0xFFFFFFFF, addr & 0xFFFFFFFF)


def _cmp_addresses(a: DestEntry | ServiceEntry, b: DestEntry | ServiceEntry) -> int:
    """The family of the left one decides how many words are looked at."""
    count = 1 if a.af == AF_INET else 4
    for left, right in zip(_words(a.af, a.addr)[:count], _words(b.af, b.addr), strict=False):
        if found := difference(left, right):
            return found
    return 0


def cmp_services(a: ServiceEntry, b: ServiceEntry) -> int:
    """Below 0: a stands before b. By mark, family, protocol, address, port."""
    return (
        difference(a.fwmark, b.fwmark)
        or a.af - b.af
        or (0 if a.fwmark else a.protocol) - (0 if b.fwmark else b.protocol)
        or _cmp_addresses(a, b)
        or a.port - b.port
    )


def cmp_dests(a: DestEntry, b: DestEntry) -> int:
    """Below 0: a stands before b. By address, port."""
    return _cmp_addresses(a, b) or a.port - b.port


def merge_sort(items: Sequence[T], compare: Callable[[T, T], int]) -> list[T]:
    """Top-down merge sort: halves (the first one is the smaller), both sorted, merged; the left one goes first where the comparison is <= 0. O(n log n)."""
    if len(items) < 2:
        return list(items)
    half = len(items) // 2
    left, right = merge_sort(items[:half], compare), merge_sort(items[half:], compare)
    merged: list[T] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if compare(left[i], right[j]) <= 0:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]
