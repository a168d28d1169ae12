"""sed: the destination where a new connection is served soonest.

source: ip_vs_sed.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import ONE_DIGIT, s32, usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class ShortestExpectedDelay(Scheduler):
    """Takes the smallest (active connections + 1) / weight: the load *with* the new connection. Inactive ones do not count."""

    name = "sed"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The shortest delay; of equals the first in the list. Weight > 0 is tested for the first candidate only. O(n)."""
        rest = iter(svc.destinations)
        for best in rest:
            if usable(best):
                break
        else:
            self.error(svc, NO_DESTINATION)
            return None
        best_delay, best_weight = s32(best.activeconns + 1), best.raw_weight
        for dest in rest:
            if dest.flags and dest.flags & IP_VS_DEST_F_OVERLOAD:
                continue
            weight = dest.raw_weight
            delay = dest.activeconns + 1
            if delay > ONE_DIGIT:
                delay = s32(delay)
            if best_delay * weight > delay * best_weight:
                best, best_delay, best_weight = dest, delay, weight
        return best

    def score(self, svc: Service, dest: Dest) -> int | None:
        """Active connections + 1: the smallest in proportion to the weight is taken."""
        return s32(dest.activeconns + 1) if usable(dest) else None
