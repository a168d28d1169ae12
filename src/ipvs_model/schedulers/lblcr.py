"""lblcr: a destination address has a set of destinations that grows under load and shrinks in peace (for clusters of caches).

source: ip_vs_lblcr.c
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_CF_AVAILABLE, IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.cache import CacheTable, is_overloaded
from ipvs_model.schedulers.weights import conn_overhead, least_loaded, usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class Entry:
    """The set of destinations of an address, with a reference to each (source: ip_vs_lblcr.c, struct ip_vs_dest_set)."""

    __slots__ = ("daddr", "lastmod", "lastuse", "members")

    def __init__(self, daddr: int, dest: Dest, now: int) -> None:
        self.daddr = daddr
        self.members: list[Dest] = []  #: the newest first
        self.lastuse = now  #: jiffies
        self.lastmod = now  #: jiffies of the last change of the set
        self.add(dest, now)

    def add(self, dest: Dest, now: int) -> None:
        """Put a destination in front; if it is in the set, nothing happens."""
        if dest not in self.members:
            dest.hold()
            self.members.insert(0, dest)
            self.lastmod = now

    def erase(self, dest: Dest, now: int) -> None:
        """Take a member out."""
        self.members.remove(dest)
        self.lastmod = now
        dest.put()

    def release(self) -> None:
        for dest in self.members:
            dest.put()

    def least(self) -> Dest | None:
        """The usable, available member with the smallest overhead / weight; of equals the first (source: ip_vs_dest_set_min)."""
        best = None
        best_overhead = best_weight = 0
        for dest in self.members:
            if dest.flags & IP_VS_DEST_F_OVERLOAD or not dest.cflags & IP_VS_DEST_CF_AVAILABLE:
                continue
            overhead, weight = conn_overhead(dest), dest.raw_weight
            if weight > 0 if best is None else best_overhead * weight > overhead * best_weight:
                best, best_overhead, best_weight = dest, overhead, weight
        return best

    def most(self) -> Dest | None:
        """The member with the largest overhead / weight; of equals the first. Deleted ones count, OVERLOAD too (source: ip_vs_dest_set_max)."""
        best = None
        best_overhead = best_weight = 0
        for dest in self.members:
            overhead, weight = conn_overhead(dest), dest.raw_weight
            if weight > 0 and (best is None or best_overhead * weight < overhead * best_weight):
                best, best_overhead, best_weight = dest, overhead, weight
        return best


class Table(CacheTable[Entry]):
    """The cache of a service under lblcr."""

    __slots__ = ()

    def expiration(self) -> int:
        return self.svc.ipvs.sysctl.lblcr_expiration


class LocalityBasedLeastConnectionReplicated(Scheduler):
    """Remembers for each destination address a set of destinations; one more joins when the best of them is overloaded. State: a Table."""

    name = "lblcr"

    def init_service(self, svc: Service) -> None:
        table = svc.sched_data = Table(svc)
        table.start()

    def done_service(self, svc: Service) -> None:
        svc.sched_data.stop()

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The least loaded member of the set if there is one and it is not overloaded; otherwise the least loaded of all joins the set."""
        table: Table = svc.sched_data
        now = svc.ipvs.clock.now
        entry = table.find(iph.daddr)
        if entry is None:
            return self._first(svc, table, iph.daddr, now)
        entry.lastuse = now
        dest = entry.least()
        self._shrink(table, entry, now)
        if dest is not None and not is_overloaded(dest, svc):
            return dest
        least = least_loaded(svc)
        if least is None:
            self.error(svc, NO_DESTINATION)
            return None
        entry.add(least, now)
        return least

    @staticmethod
    def _first(svc: Service, table: Table, daddr: int, now: int) -> Dest | None:
        """The first connection to an address; the one case in which a scheduler finds nothing and keeps silent."""
        least = least_loaded(svc)
        if least is not None and not table.full:
            table.insert(Entry(daddr, least, now))
        return least

    @staticmethod
    def _shrink(table: Table, entry: Entry, now: int) -> None:
        """A set unchanged for a whole expiration loses its most loaded member, be it the one just chosen."""
        if len(entry.members) > 1 and now > entry.lastmod + table.expiration():
            most = entry.most()
            if most is not None:
                entry.erase(most, now)

    def references(self, svc: Service) -> Iterable[Dest]:
        """One for each place in the cache."""
        return [dest for bucket in svc.sched_data.buckets.values() for entry in bucket.values() for dest in entry.members]

    def score(self, svc: Service, dest: Dest) -> int | None:
        """For a fresh choice, the overhead: the smallest in proportion to the weight is taken."""
        return conn_overhead(dest) if usable(dest) else None
