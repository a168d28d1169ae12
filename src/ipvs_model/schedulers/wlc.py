"""wlc: the destination with the fewest connections for its weight.

source: ip_vs_wlc.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import FEW, conn_overhead, least_loaded, usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class WeightedLeastConnection(Scheduler):
    """Takes the smallest overhead / weight (overhead: 256 for an active connection, 1 for every connection)."""

    name = "wlc"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The least loaded usable destination; of equals the first in the list, so the newest.

        O(n); of equal weights O(1) on the average as long as overheads grow.
        """
        ns = svc.ipvs
        if svc.ebb == ns.ebb and ns.conn_count <= FEW:
            least: int = svc.least
            dest: Dest = svc.candidate
            if dest.overhead > least:
                for dest in svc.candidates:
                    if dest.overhead <= least:
                        svc.candidate = dest
                        break
            if dest.overhead <= least and not dest.flags & IP_VS_DEST_F_OVERLOAD:
                return dest
        best = least_loaded(svc)
        if best is None:
            self.error(svc, NO_DESTINATION)
        return best

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The overhead: the smallest in proportion to the weight is taken."""
        return conn_overhead(dest) if usable(dest) else None
