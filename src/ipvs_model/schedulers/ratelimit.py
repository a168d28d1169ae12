"""The limiter of log lines that the whole host shares (source: lib/ratelimit.c, ___ratelimit; net/core/utils.c, net_ratelimit)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipvs_model.timers import Clock

MESSAGE_COST: Final = 5  #: seconds; net.core.message_cost
MESSAGE_BURST: Final = 10  #: net.core.message_burst


class RateLimit:
    """Lets ``burst`` lines through in each ``interval`` (jiffies, 5 seconds by default) and counts what it suppresses.

    ``log`` gets the level and the line when an interval ends that had losses. Interval 0 lets everything through.

    >>> from ipvs_model.timers import Clock
    >>> clock = Clock(hz=250)
    >>> limit = RateLimit(clock, print, burst=2)
    >>> limit.allow(), limit.allow(), limit.allow()
    (True, True, False)
    >>> clock.advance(seconds=6)
    0
    >>> limit.allow()
    warning net_ratelimit: 1 callbacks suppressed
    True
    """

    __slots__ = ("begin", "burst", "clock", "interval", "log", "missed", "printed")

    def __init__(self, clock: Clock, log: Callable[[str, str], object], interval: int | None = None, burst: int = MESSAGE_BURST) -> None:
        self.clock = clock
        self.log = log
        self.interval = MESSAGE_COST * clock.hz if interval is None else interval
        self.burst = burst
        self.begin = 0  #: jiffies; 0 = no interval has begun
        self.printed = 0
        self.missed = 0

    def allow(self) -> bool:
        """May a line be logged now?"""
        if self.interval == 0:
            return True
        now = self.clock.now
        if self.begin == 0:
            self.begin = now
        if now > self.begin + self.interval:
            if self.missed:
                self.log("warning", f"net_ratelimit: {self.missed} callbacks suppressed")
                self.missed = 0
            self.begin = now
            self.printed = 0
        if self.printed < self.burst:
            self.printed += 1
            return True
        self.missed += 1
        return False
