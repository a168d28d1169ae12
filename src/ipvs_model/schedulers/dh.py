"""dh: one destination address, one destination, by a hash.

source: ip_vs_dh.c
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_CF_AVAILABLE
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.buckets import TAB_BITS, Buckets
from ipvs_model.schedulers.hashing import fold, hash_32
from ipvs_model.schedulers.weights import usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class DestinationHashing(Scheduler):
    """Looks the packet's destination address up in 256 buckets that were dealt out evenly. State: Buckets."""

    name = "dh"

    def init_service(self, svc: Service) -> None:
        svc.sched_data = Buckets()
        self._reassign(svc)

    def done_service(self, svc: Service) -> None:
        svc.sched_data.reassign(())

    def add_dest(self, svc: Service, dest: Dest) -> None:
        self._reassign(svc)

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        self._reassign(svc)

    def _reassign(self, svc: Service) -> None:
        """Deal the buckets out in list order, one each; weights do not matter, not even 0."""
        svc.sched_data.reassign(cycle(svc.destinations))

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The destination of the address's bucket, or none if it is not usable: there is no second choice.

        The INVERSE flag is not looked at, so a scheduled ICMP error is keyed on the client.
        """
        dest: Dest | None = svc.sched_data.table[hash_32(fold(svc.af, iph.daddr), TAB_BITS)]
        if dest is None or not dest.cflags & IP_VS_DEST_CF_AVAILABLE or not usable(dest):
            self.error(svc, NO_DESTINATION)
            return None
        return dest

    def references(self, svc: Service) -> Iterable[Dest]:
        """One for each bucket."""
        return [dest for dest in svc.sched_data.table if dest is not None]

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The number of buckets that lead to the destination."""
        return svc.sched_data.counts.get(dest, 0) if usable(dest) else None
