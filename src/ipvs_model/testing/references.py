"""What the kernel's schedulers promise, in the simplest words: slow twins that look at everything and know no state.

Each takes the service and the header of the packet and returns the server that must be chosen (None: refused). Only the schedulers whose choice
follows from what can be seen now have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import cycle, islice
from typing import Final, TypeAlias

from ipvs_model.dest import Dest
from ipvs_model.flags import IP_VS_SVC_F_SCHED_SH_FALLBACK
from ipvs_model.packet import IpHdr
from ipvs_model.service import Service

Twin: TypeAlias = "Callable[[Service, IpHdr], Dest | None]"
GOLDEN_RATIO_32: Final = 0x61C88647
BUCKETS: Final = 256


def usable(dest: Dest) -> bool:
    """Weight above 0, not above its threshold."""
    return dest.weight > 0 and not dest.overloaded


def first_least(dests: Iterable[Dest], load: Callable[[Dest], Fraction | int]) -> Dest | None:
    """The one with the least load; of equals the first in the list."""
    best: Dest | None = None
    for dest in dests:
        if best is None or load(dest) < load(best):
            best = dest
    return best


def overhead(dest: Dest) -> int:
    """256 for an active connection, 1 for every connection."""
    return 256 * dest.activeconns + dest.totalconns


def lc(svc: Service, iph: IpHdr) -> Dest | None:
    """The least overhead."""
    return first_least(filter(usable, svc.destinations), overhead)


def wlc(svc: Service, iph: IpHdr) -> Dest | None:
    """The least overhead for its weight."""
    return first_least(filter(usable, svc.destinations), lambda dest: Fraction(overhead(dest), dest.weight))


def sed(svc: Service, iph: IpHdr) -> Dest | None:
    """The least (active + 1) for its weight."""
    return first_least(filter(usable, svc.destinations), lambda dest: Fraction(dest.activeconns + 1, dest.weight))


def nq(svc: Service, iph: IpHdr) -> Dest | None:
    """The first without active connections, else as sed."""
    return next((dest for dest in svc.destinations if usable(dest) and not dest.activeconns), None) or sed(svc, iph)


def fo(svc: Service, iph: IpHdr) -> Dest | None:
    """The heaviest."""
    return first_least(filter(usable, svc.destinations), lambda dest: -dest.weight)


def ovf(svc: Service, iph: IpHdr) -> Dest | None:
    """The heaviest of those with no more active connections than weight."""
    return first_least((dest for dest in svc.destinations if usable(dest) and dest.activeconns <= dest.weight), lambda dest: -dest.weight)


def bucket(address: int) -> int:
    """The bucket of an IPv4 address."""
    return (address * GOLDEN_RATIO_32 & 0xFFFFFFFF) >> 24


def dealt(dests: Iterable[Dest]) -> list[Dest]:
    """256 buckets, dealt out one after the other, over and over."""
    return list(islice(cycle(dests), BUCKETS))


def dh(svc: Service, iph: IpHdr) -> Dest | None:
    """The owner of the virtual address's bucket, whatever its weight; refused if that may not get it."""
    buckets = dealt(svc.destinations)
    owner = buckets[bucket(iph.daddr)] if buckets else None
    return owner if owner is not None and usable(owner) else None


def sh(svc: Service, iph: IpHdr) -> Dest | None:
    """The owner of the client's bucket, dealt by weight (0 gets a share of 1); with the fallback flag the first usable owner from bucket 2h on."""
    buckets = dealt([dest for dest in svc.destinations for _ in range(max(1, dest.weight))])
    if not buckets:
        return None
    mine = bucket(iph.saddr)
    if usable(buckets[mine]):
        return buckets[mine]
    if not svc.flags & IP_VS_SVC_F_SCHED_SH_FALLBACK:
        return None
    tried = (buckets[(2 * mine + offset) % BUCKETS] for offset in range(BUCKETS))
    return next(filter(usable, tried), None)


TWINS: Final[dict[str, Twin]] = {"lc": lc, "wlc": wlc, "sed": sed, "nq": nq, "fo": fo, "ovf": ovf, "dh": dh, "sh": sh}
