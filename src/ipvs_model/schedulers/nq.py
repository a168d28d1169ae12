"""nq: an idle destination if there is one, otherwise the shortest expected delay.

source: ip_vs_nq.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import ONE_DIGIT, s32

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class NeverQueue(Scheduler):
    """Takes the first destination without active connections, whatever its weight; else as sed."""

    name = "nq"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The first idle one in the list, or the smallest (active + 1) / weight, of equals the first. O(n)."""
        best = None
        best_delay = best_weight = 0
        for dest in svc.destinations:
            weight = dest.raw_weight
            if weight == 0 or (dest.flags and dest.flags & IP_VS_DEST_F_OVERLOAD):
                continue
            delay = dest.activeconns + 1
            if delay == 1:
                return dest
            if delay > ONE_DIGIT:
                delay = s32(delay)
            if best is None or best_delay * weight > delay * best_weight:
                best, best_delay, best_weight = dest, delay, weight
        if best is None:
            self.error(svc, NO_DESTINATION)
        return best

    def score(self, svc: Service, dest: Dest) -> int | None:
        """0 if idle (taken at once), else active connections + 1: the smallest in proportion to the weight is taken."""
        if dest.raw_weight == 0 or dest.flags & IP_VS_DEST_F_OVERLOAD:
            return None
        return s32(dest.activeconns + 1) if dest.activeconns else 0
