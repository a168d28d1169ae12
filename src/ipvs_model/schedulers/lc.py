"""lc: the destination with the fewest connections.

source: ip_vs_lc.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import conn_overhead

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class LeastConnection(Scheduler):
    """Takes the smallest overhead (256 for an active connection, 1 for every connection); weight counts only as zero or not."""

    name = "lc"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The least overhead, compared as unsigned 32-bit numbers; of equals the first in the list. O(n)."""
        best = None
        least = 1 << 32
        for dest in svc.destinations:
            overhead = dest.overhead & 0xFFFFFFFF
            if overhead < least and dest.raw_weight and not dest.flags & IP_VS_DEST_F_OVERLOAD:
                best, least = dest, overhead
        if best is None:
            self.error(svc, NO_DESTINATION)
        return best

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The overhead: the smallest is taken."""
        if dest.raw_weight == 0 or dest.flags & IP_VS_DEST_F_OVERLOAD:
            return None
        return conn_overhead(dest) & 0xFFFFFFFF
