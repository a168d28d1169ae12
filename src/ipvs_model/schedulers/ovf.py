"""ovf: the heaviest destination until it is full, then the next.

source: ip_vs_ovf.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class Overflow(Scheduler):
    """Fills the destination with the largest weight up to weight + 1 active connections before it turns to the next."""

    name = "ovf"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The largest weight among those with no more active connections than weight; of equals the first. O(n)."""
        best = None
        for dest in svc.destinations:
            if self._has_room(dest) and (best is None or dest.raw_weight > best.raw_weight):
                best = dest
        if best is None:
            self.error(svc, NO_DESTINATION)
        return best

    @staticmethod
    def _has_room(dest: Dest) -> bool:
        return dest.raw_weight != 0 and dest.activeconns <= dest.raw_weight and not dest.flags & IP_VS_DEST_F_OVERLOAD

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The weight, if there is room: the largest is taken."""
        return dest.raw_weight if self._has_room(dest) else None
