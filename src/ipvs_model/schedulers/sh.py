"""sh: one client, one destination, by a hash.

source: ip_vs_sh.c
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, repeat
from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_SVC_F_SCHED_SH_FALLBACK, IP_VS_SVC_F_SCHED_SH_PORT
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.buckets import TAB_BITS, TAB_SIZE, Buckets
from ipvs_model.schedulers.hashing import client_key, hash_32
from ipvs_model.schedulers.weights import usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class SourceHashing(Scheduler):
    """Looks the client up in 256 buckets that were dealt out by weight. State: Buckets."""

    name = "sh"

    def init_service(self, svc: Service) -> None:
        svc.sched_data = Buckets()
        self._reassign(svc)

    def done_service(self, svc: Service) -> None:
        svc.sched_data.reassign(())

    def add_dest(self, svc: Service, dest: Dest) -> None:
        self._reassign(svc)

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        self._reassign(svc)

    def upd_dest(self, svc: Service, dest: Dest) -> None:
        self._reassign(svc)

    def _reassign(self, svc: Service) -> None:
        svc.sched_data.reassign(deal(svc.destinations))

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The destination of the client's bucket; with the fallback flag another bucket if that one is not usable.

        The flags are read for every packet. The first retry is bucket 2h (mod 256), not h + 1.
        """
        table: list[Dest | None] = svc.sched_data.table
        bucket = hash_32(client_key(svc, iph, IP_VS_SVC_F_SCHED_SH_PORT), TAB_BITS)
        dest = table[bucket]
        if dest is not None and not usable(dest):
            dest = self._fallback(table, bucket) if svc.flags & IP_VS_SVC_F_SCHED_SH_FALLBACK else None
        if dest is None:
            self.error(svc, NO_DESTINATION)
        return dest

    @staticmethod
    def _fallback(table: list[Dest | None], bucket: int) -> Dest | None:
        for offset in range(TAB_SIZE):
            dest = table[(2 * bucket + offset) % TAB_SIZE]
            if dest is None or usable(dest):
                return dest
        return None

    def references(self, svc: Service) -> Iterable[Dest]:
        """One for each bucket."""
        return [dest for dest in svc.sched_data.table if dest is not None]

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The number of buckets that lead to the destination."""
        return svc.sched_data.counts.get(dest, 0) if usable(dest) else None


def deal(destinations: list[Dest]) -> Iterator[Dest]:
    """Destinations over and over, each as many times in a row as its weight; weight 0 gets one, as 1 does."""
    for dest in cycle(destinations):
        yield from repeat(dest, max(dest.raw_weight, 1))
