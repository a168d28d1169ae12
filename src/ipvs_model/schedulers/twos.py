"""twos: the better of two destinations drawn at random.

source: ip_vs_twos.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.weights import ONE_DIGIT, conn_overhead, s32, usable

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service


class TwoRandomChoices(Scheduler):
    """Draws two destinations in proportion to their weights and takes the less loaded one."""

    name = "twos"
    reads_header = False

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """Two draws of ``svc.ipvs.rng.below(sum of weights + 1)``, always both; a tie goes to the first draw. O(n).

        A number belongs to the first destination whose cumulated weight reaches it. Sums and products are C ``int``: beyond
        31 bits they wrap.
        """
        choice2 = None
        live = [dest for dest in svc.destinations if dest.raw_weight > 0 and not dest.flags & IP_VS_DEST_F_OVERLOAD]
        if not live:
            self.error(svc, NO_DESTINATION)
            return None
        choice1 = live[-1]
        ceiling = sum(dest.raw_weight for dest in live) + 1 & 0xFFFFFFFF
        rest1 = s32(svc.ipvs.rng.below(ceiling))
        rest2 = s32(svc.ipvs.rng.below(ceiling))
        weight1 = weight2 = -1
        overhead1 = overhead2 = 0
        for dest in live:
            weight = dest.raw_weight
            rest1 -= weight
            rest2 -= weight
            if rest1 < -ONE_DIGIT or rest2 < -ONE_DIGIT:
                rest1, rest2 = s32(rest1), s32(rest2)
            if rest1 <= 0 and weight1 == -1:
                choice1, weight1, overhead1 = dest, weight, conn_overhead(dest)
            if rest2 <= 0 and weight2 == -1:
                choice2, weight2, overhead2 = dest, weight, conn_overhead(dest)
            if weight1 != -1 and weight2 != -1:
                break
        if choice2 is not None and s32(weight2 * overhead1) > s32(weight1 * overhead2):
            return choice2
        return choice1

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The overhead: of the two drawn, the smaller in proportion to the weight is taken."""
        return conn_overhead(dest) if usable(dest) else None
