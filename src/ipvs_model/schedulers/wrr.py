"""wrr: round robin in proportion to the weights, by a threshold that goes down step by step.

source: ip_vs_wrr.c
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Final

from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers.base import NO_DESTINATION, Scheduler
from ipvs_model.schedulers.position import Position

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service

ALL_OVERLOADED: Final = f"{NO_DESTINATION}: all destinations are overloaded"


class Mark:
    """Where the scan stands and which weight it asks for (source: ip_vs_wrr.c, struct ip_vs_wrr_mark)."""

    __slots__ = ("cursor", "cw", "di", "mw")

    def __init__(self, destinations: list[Dest]) -> None:
        self.cursor = Position()
        self.di = 1  #: step: greatest common divisor of the weights
        self.mw = 0  #: highest threshold: the largest weight, less (di - 1); 0 = nothing to choose from
        self.measure(destinations)
        self.cw = self.mw  #: threshold now: a destination of at least this weight may be chosen

    def measure(self, destinations: list[Dest]) -> None:
        """Find the step and the highest threshold again; OVERLOAD does not matter."""
        self.di = gcd(*(dest.raw_weight for dest in destinations)) or 1
        self.mw = max((dest.raw_weight for dest in destinations), default=0) - (self.di - 1)


class WeightedRoundRobin(Scheduler):
    """Sweeps the list at falling thresholds: whoever weighs at least the threshold is taken. State: a Mark."""

    name = "wrr"
    reads_header = False

    def init_service(self, svc: Service) -> None:
        svc.sched_data = Mark(svc.destinations)

    def add_dest(self, svc: Service, dest: Dest) -> None:
        self._changed(svc)

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        self._changed(svc)

    def upd_dest(self, svc: Service, dest: Dest) -> None:
        self._changed(svc)

    def _changed(self, svc: Service) -> None:
        """Start at the head again but keep the threshold, fitted to the new step (source: ip_vs_wrr.c, ip_vs_wrr_dest_changed)."""
        mark: Mark = svc.sched_data
        mark.cursor.move(None, -1)
        mark.measure(svc.destinations)
        if mark.cw > mark.mw or mark.cw == 0:
            mark.cw = mark.mw
        elif mark.di > 1:
            mark.cw = mark.cw // mark.di * mark.di + 1

    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """Sweep on from the cursor; at the end of the list lower the threshold, below 1 begin at the top again.

        Each threshold is tried once; a failed call may have moved cursor and threshold. Thresholds above every weight on offer
        are skipped in one step, so a call costs no more than a sweep for each different weight.
        """
        mark: Mark = svc.sched_data
        if mark.mw == 0:
            self.error(svc, NO_DESTINATION)
            return None
        destinations = svc.destinations
        start = mark.cursor.index(destinations)
        begin = start + 1
        stop = reachable = -1
        last_pass = restarted = False
        cw, di = mark.cw, mark.di
        while True:
            for index in range(begin, len(destinations)):
                dest = destinations[index]
                if dest.raw_weight >= cw and not dest.flags & IP_VS_DEST_F_OVERLOAD:
                    mark.cw = cw
                    mark.cursor.move(dest, index)
                    return dest
                if index == stop:
                    self._all_overloaded(svc, mark, cw, dest, index)
                    return None
            cw -= di
            if cw <= 0:
                cw = mark.mw
                if last_pass or start < 0:
                    self._all_overloaded(svc, mark, cw, None, -1)
                    return None
                restarted = True
            if reachable < 0:
                reachable = max(di, *(0 if dest.flags & IP_VS_DEST_F_OVERLOAD else dest.raw_weight for dest in destinations))
            if cw > reachable:
                cw -= -(-(cw - reachable) // di) * di
            last_pass = cw <= di
            if last_pass and restarted:
                stop = start
            begin = 0

    def _all_overloaded(self, svc: Service, mark: Mark, cw: int, dest: Dest | None, index: int) -> None:
        mark.cw = cw
        mark.cursor.move(dest, index)
        self.error(svc, ALL_OVERLOADED)

    def score(self, svc: Service, dest: Dest) -> int | None:
        """Weight above the present threshold; from 0 up the destination is taken when the scan meets it."""
        if dest.raw_weight <= 0 or dest.flags & IP_VS_DEST_F_OVERLOAD:
            return None
        return int(dest.raw_weight - svc.sched_data.cw)
