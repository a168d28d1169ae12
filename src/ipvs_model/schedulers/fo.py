"""fo: the heaviest destination, until it fails.

source: ip_vs_fo.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class WeightedFailover(Scheduler):
    """Sends everything to the destination with the largest weight; connections are not counted."""

    name = "fo"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The largest weight above 0 without OVERLOAD; of equals the first in the list. O(n)."""
        best = None
        heaviest = 0
        for dest in svc.destinations:
            if dest.raw_weight > heaviest and not dest.flags & IP_VS_DEST_F_OVERLOAD:
                best, heaviest = dest, dest.raw_weight
        if best is None:
            self.error(svc, NO_DESTINATION)
        return best

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The weight: the largest is taken."""
        return dest.raw_weight if usable(dest) else None
