"""Loads and weights as the kernel computes them: 32-bit counters, 64-bit products, no division.

source: include/net/ip_vs.h, ip_vs_dest_conn_overhead; ip_vs_wlc.c, ip_vs_wlc_schedule
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.service import Service

ONE_DIGIT: Final = 0x3FFFFFFF  #: up to here an ``int`` has not wrapped and Python computes fastest
FEW: Final = 1 << 21  #: so many connections make no overhead beyond a C ``int``


def s32(value: int) -> int:
    """A number as a C ``int`` keeps it: modulo 2**32, signed.

    >>> s32(0x7fffffff), s32(0x80000000), s32(-1)
    (2147483647, -2147483648, -1)
    """
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def usable(dest: Dest) -> bool:
    """May the destination get a connection at all: weight above 0, no OVERLOAD."""
    return dest.raw_weight > 0 and not dest.flags & IP_VS_DEST_F_OVERLOAD


def conn_overhead(dest: Dest) -> int:
    """The load of a destination: 256 for an active connection, 1 for every connection, as a C ``int``."""
    return s32(dest.overhead)


def least_loaded(svc: Service) -> Dest | None:
    """The usable destination with the smallest overhead / weight; of equals the first in the list. O(n).

    Only the first candidate is tested for weight > 0: with weight 0 the left product is 0, which wins nothing as long as no
    overhead is negative.
    """
    ns = svc.ipvs
    may_wrap = ns.overheads_wrap or ns.conn_count > FEW
    if not may_wrap and svc.has_even_weights():
        return _lightest(svc)
    rest = iter(svc.destinations)
    for first in rest:
        if first.raw_weight > 0 and not first.flags & IP_VS_DEST_F_OVERLOAD:
            break
    else:
        return None
    if may_wrap:
        return _exactly(first, svc)
    best, least, heaviest = first, first.overhead, first.raw_weight
    # most lose without a multiplication; not if the least is negative, which takes more conns gone inactive than were active
    for dest in rest:
        if dest.overhead < least or dest.raw_weight > heaviest:
            overhead, weight = dest.overhead, dest.raw_weight
            if least * weight > overhead * heaviest and not dest.flags & IP_VS_DEST_F_OVERLOAD:
                best, least, heaviest = dest, overhead, weight
    return best if least >= 0 else _exactly(first, svc)


def _lightest(svc: Service) -> Dest | None:
    """The same of equal weights while no overhead wraps. What it finds out spares ``wlc`` the next search; not if an overloaded one is lighter."""
    best, least, all_seen = None, 1 << 31, True
    for dest in svc.destinations:
        if dest.overhead < least:
            if dest.flags & IP_VS_DEST_F_OVERLOAD:
                all_seen = False
            else:
                best, least = dest, dest.overhead
    if all_seen:
        svc.ebb, svc.least, svc.candidate, svc.candidates = svc.ipvs.ebb, least, best, iter(svc.destinations)
    return best


def _exactly(best: Dest, svc: Service) -> Dest:
    """The same from the first candidate on, for overheads that may be negative, or beyond a C ``int``."""
    best_overhead, best_weight = conn_overhead(best), best.raw_weight
    for dest in svc.destinations[svc.destinations.index(best) + 1 :]:
        overhead = conn_overhead(dest)
        if best_overhead * dest.raw_weight > overhead * best_weight and not dest.flags & IP_VS_DEST_F_OVERLOAD:
            best, best_overhead, best_weight = dest, overhead, dest.raw_weight
    return best
