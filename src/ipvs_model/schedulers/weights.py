"""Loads and weights as the kernel computes them: 32-bit counters, 64-bit products, no division.

source: include/net/ip_vs.h, ip_vs_dest_conn_overhead; ip_vs_wlc.c, ip_vs_wlc_schedule
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD

if TYPE_CHECKING:
    from ipvs_model.dest import Dest

ONE_DIGIT: Final = 0x3FFFFFFF  #: up to here an ``int`` has not wrapped and Python computes fastest


def s32(value: int) -> int:
    """A number as a C ``int`` keeps it: modulo 2**32, signed.

    >>> s32(0x7fffffff), s32(0x80000000), s32(-1)
    (2147483647, -2147483648, -1)
    """
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def usable(dest: Dest) -> bool:
    """May the destination get a connection at all: weight above 0, no OVERLOAD."""
    return dest.weight > 0 and not dest.flags & IP_VS_DEST_F_OVERLOAD


def conn_overhead(dest: Dest) -> int:
    """The load of a destination: 256 for an active connection, 1 for every connection, as a C ``int``."""
    overhead = dest.activeconns * 256 + dest.totalconns
    return overhead if overhead <= ONE_DIGIT else s32(overhead)


def least_loaded(destinations: Iterable[Dest]) -> Dest | None:
    """The usable destination with the smallest overhead / weight; of equals the first in the list. O(n).

    Only the first candidate is tested for weight > 0: with weight 0 the left product is 0, which wins nothing as long as no
    overhead has wrapped to a negative number.
    """
    rest = iter(destinations)
    for best in rest:
        if best.weight > 0 and not best.flags & IP_VS_DEST_F_OVERLOAD:
            break
    else:
        return None
    best_overhead, best_weight = conn_overhead(best), best.weight
    one_digit = ONE_DIGIT
    for dest in rest:
        weight = dest.weight
        overhead = dest.activeconns * 256 + dest.totalconns
        # most lose without a multiplication
        if best_overhead <= overhead <= one_digit and weight <= best_weight:
            continue
        if dest.flags and dest.flags & IP_VS_DEST_F_OVERLOAD:
            continue
        if overhead > one_digit:
            overhead = s32(overhead)
        if best_overhead * weight > overhead * best_weight:
            best, best_overhead, best_weight = dest, overhead, weight
    return best
