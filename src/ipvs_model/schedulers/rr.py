"""rr: one after the other.

source: ip_vs_rr.c
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.position import Position
from ipvs_model.schedulers.weights import usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class RoundRobin(Scheduler):
    """Takes the next usable destination after the one chosen last. State: a Position."""

    name = "rr"
    reads_header = False

    def init_service(self, svc: Service) -> None:
        svc.sched_data = Position()

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        """If the scan stands at the deleted entry, it steps back to the entry before (source: ip_vs_rr.c, ip_vs_rr_del_dest)."""
        here: Position = svc.sched_data
        if here.dest is dest:
            here.move(svc.destinations[position - 1] if position else None, position - 1)

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """From the entry after the position to the end, then from the front up to and including the position."""
        here: Position = svc.sched_data
        destinations = svc.destinations
        after = here.index(destinations) + 1
        for index in chain(range(after, len(destinations)), range(after)):
            dest = destinations[index]
            if usable(dest):
                here.move(dest, index)
                return dest
        self.error(svc, NO_DESTINATION)
        return None
