"""The network between a master and its backup: loses and delays datagrams, the same ones on every run.

Model only: in the kernel there is a multicast group here.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Protocol

from ipvs_model.sync.daemon import SyncDaemons
from ipvs_model.sync.receiver import SyncReport
from ipvs_model.sync.sender import SyncDatagram
from ipvs_model.timers import FunctionTimer


class Director(Protocol):
    """What has synchronisation daemons: an IPVS."""

    @property
    def daemons(self) -> SyncDaemons:
        """Its daemons."""


class SyncLink:
    """Carries what one director's master sends to another's backup. Both must share one Clock, else ValueError.

    loss: share of the datagrams that never arrive, 0..1. delay: jiffies on the way, one number or (least, most); 0 = delivered before the sender
    goes on. Above 63 jiffies the delay is rounded up as any timer of the clock is. With different delays datagrams may overtake each other.
    Several links may start at one master. `up` = False loses everything, as does a dead master's cable; `unplug` ends the link.
    """

    def __init__(self, master: Director, backup: Director, *, loss: float = 0.0, delay: int | tuple[int, int] = 0, seed: int = 0) -> None:
        least, most = (delay, delay) if isinstance(delay, int) else delay
        if not 0 <= loss <= 1:
            raise ValueError(f"loss={loss} is not between 0 and 1")
        if not 0 <= least <= most:
            raise ValueError(f"delay={delay} is not a number of jiffies, or two in order")
        if master.daemons.ns.clock is not backup.daemons.ns.clock:
            raise ValueError("master and backup must share one Clock")
        self.master = master.daemons
        self.backup = backup.daemons
        self.loss = loss
        self.least = least
        self.most = most
        self.up = True
        self.sent = 0  #: datagrams that the master sent
        self.lost = 0  #: of these, lost on the way
        self.delivered = 0  #: of these, arrived at the backup (the rest is under way)
        self.applied = 0  #: records that made or updated an entry
        self.last: SyncReport | None = None  #: what the backup made of the latest
        self._random = random.Random(seed)
        self._others = self.master.out
        self.master.out = self.carry

    def __repr__(self) -> str:
        return f"<SyncLink sent {self.sent}, lost {self.lost}, delivered {self.delivered}, records applied {self.applied}>"

    def carry(self, datagram: SyncDatagram) -> None:
        """Take a datagram from the master."""
        if self._others is not None:
            self._others(datagram)
        self.sent += 1
        # Both draws are made every time, so that one link with more loss loses what one with less does, and more.
        lost, delay = self._random.random() < self.loss, self._random.randint(self.least, self.most)
        if lost or not self.up:
            self.lost += 1
        elif delay == 0:
            self._deliver(datagram)
        else:
            clock = self.master.ns.clock
            # The wheel fires strictly after the expiry, the exact queue at it.
            clock.mod_timer(FunctionTimer(partial(self._deliver, datagram)), clock.now + delay - (clock.mode == "kernel"))

    def unplug(self) -> None:
        """Take the link off its master; what is under way still arrives. Links are unplugged in the reverse order. Raises ValueError otherwise."""
        if self.master.out != self.carry:
            raise ValueError(f"another link was plugged in after {self!r}")
        self.master.out = self._others

    def _deliver(self, datagram: SyncDatagram) -> None:
        self.delivered += 1
        self.last = self.backup.receive(datagram.payload, af=datagram.af, group=datagram.group, port=datagram.port)
        self.applied += self.last.applied
