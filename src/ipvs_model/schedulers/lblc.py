"""lblc: a destination address stays with its destination until that is overloaded (for clusters of caches).

source: ip_vs_lblc.c
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_CF_AVAILABLE
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.cache import CacheTable, is_overloaded
from ipvs_model.schedulers.weights import conn_overhead, least_loaded, usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class Entry:
    """The destination of an address, with a reference to it (source: ip_vs_lblc.c, struct ip_vs_lblc_entry)."""

    __slots__ = ("daddr", "dest", "lastuse")

    def __init__(self, daddr: int, dest: Dest, now: int) -> None:
        self.daddr = daddr
        self.dest = dest
        self.lastuse = now  #: jiffies
        dest.hold()

    def release(self) -> None:
        self.dest.put()


class Table(CacheTable[Entry]):
    """The cache of a service under lblc."""

    __slots__ = ()

    def expiration(self) -> int:
        return self.svc.ipvs.sysctl.lblc_expiration


class LocalityBasedLeastConnection(Scheduler):
    """Remembers for each destination address where it went; chooses afresh as wlc. State: a Table."""

    name = "lblc"

    def init_service(self, svc: Service) -> None:
        table = svc.sched_data = Table(svc)
        table.start()

    def done_service(self, svc: Service) -> None:
        svc.sched_data.stop()

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The remembered destination if it is there, has weight and is not overloaded; otherwise the least loaded one.

        For a remembered destination the OVERLOAD flag is not looked at. The INVERSE flag never is.
        """
        table: Table = svc.sched_data
        now = svc.ipvs.clock.now
        entry = table.find(iph.daddr)
        if entry is not None:
            entry.lastuse = now
            dest = entry.dest
            if dest.cflags & IP_VS_DEST_CF_AVAILABLE and dest.raw_weight > 0 and not is_overloaded(dest, svc):
                return dest
        least = least_loaded(svc)
        if least is None:
            self.error(svc, NO_DESTINATION)
            return None
        self._remember(table, entry, iph.daddr, least, now)
        return least

    @staticmethod
    def _remember(table: Table, entry: Entry | None, daddr: int, dest: Dest, now: int) -> None:
        if entry is not None:
            if entry.dest is dest:
                return
            table.remove(entry)
        if not table.full:
            table.insert(Entry(daddr, dest, now))

    def references(self, svc: Service) -> Iterable[Dest]:
        """One for each place in the cache."""
        return [entry.dest for bucket in svc.sched_data.buckets.values() for entry in bucket.values()]

    def score(self, svc: Service, dest: Dest) -> int | None:
        """For a fresh choice, the overhead: the smallest in proportion to the weight is taken."""
        return conn_overhead(dest) if usable(dest) else None
