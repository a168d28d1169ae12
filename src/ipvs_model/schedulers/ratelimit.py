"""The limiter of log lines that the whole host shares (source: lib/ratelimit.c, ___ratelimit; net/core/utils.c, net_ratelimit)."""

from collections.abc import Callable
from typing import Final

MESSAGE_COST_SECONDS: Final = 5  #: net.core.message_cost
MESSAGE_BURST: Final = 10  #: net.core.message_burst


class RateLimit:
    """Lets ``burst`` lines through in each ``interval`` (jiffies) and counts what it suppresses; interval 0 allows all.

    >>> limit, lines = RateLimit(interval=1250, burst=2), []
    >>> [limit.allow(now, lambda level, text: lines.append(text)) for now in (1, 2, 3, 1251, 1252)]
    [True, True, False, False, True]
    >>> lines
    ['net_ratelimit: 2 callbacks suppressed']
    """

    __slots__ = ("begin", "burst", "interval", "missed", "printed")

    def __init__(self, interval: int, burst: int = MESSAGE_BURST) -> None:
        self.interval = interval
        self.burst = burst
        self.begin = 0  #: jiffies; 0 = no interval has begun
        self.printed = 0
        self.missed = 0

    def allow(self, now: int, log: Callable[[str, str], object]) -> bool:
        """May a line be logged at jiffy ``now``? Tells ``log`` (level, text) what the interval before has lost."""
        if self.interval == 0:
            return True
        if self.begin == 0:
            self.begin = now
        if now > self.begin + self.interval:
            if self.missed:
                log("warning", f"net_ratelimit: {self.missed} callbacks suppressed")
                self.missed = 0
            self.begin = now
            self.printed = 0
        if self.printed < self.burst:
            self.printed += 1
            return True
        self.missed += 1
        return False
