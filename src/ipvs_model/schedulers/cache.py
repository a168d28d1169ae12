"""The cache of lblc and lblcr: destination address to entry, swept by a timer once a minute.

source: ip_vs_lblc.c, ip_vs_lblcr.c (…_check_expire, …_full_check, is_overloaded)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from ipvs_model.schedulers.hashing import fold, hash_32
from ipvs_model.schedulers.weights import s32
from ipvs_model.timers import Timer

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.service import Service

TAB_BITS: Final = 10  #: IP_VS_LBLC_TAB_BITS
TAB_SIZE: Final = 1 << TAB_BITS
MAX_SIZE: Final = TAB_SIZE * 16  #: above so many entries the partial check removes some
FULL_SIZE: Final = MAX_SIZE * 3 // 2  #: at so many entries no more are made
CHECK_EXPIRE_INTERVAL: Final = 60  #: seconds from one check to the next
ENTRY_TIMEOUT: Final = 360  #: seconds without use after which the partial check removes an entry
COUNT_FOR_FULL_EXPIRATION: Final = 30  #: so many quiet checks to a full check


class CacheEntry(Protocol):
    """What the table needs to know of an entry."""

    daddr: int
    lastuse: int

    def release(self) -> None:
        """Give the references to destinations back."""


Entry = TypeVar("Entry", bound=CacheEntry)


class CacheTable(Timer, Generic[Entry]):
    """The cache of one service; it is itself the timer that sweeps it (source: ip_vs_lblc.c, struct ip_vs_lblc_table)."""

    __slots__ = ("buckets", "counter", "entries", "rover", "svc")

    def __init__(self, svc: Service) -> None:
        super().__init__()
        self.svc = svc
        self.buckets: dict[int, dict[int, Entry]] = {}  #: bucket number to entries by address, oldest first; only buckets in use
        self.entries = 0
        self.rover = 0  #: bucket that the last partial check ended with
        self.counter = 1  #: checks since the last full one

    def expiration(self) -> int:
        """Jiffies without use after which the full check removes an entry."""
        raise NotImplementedError

    def start(self) -> None:
        """Arm the timer."""
        clock = self.svc.ipvs.clock
        clock.mod_timer(self, clock.now + CHECK_EXPIRE_INTERVAL * clock.hz)

    def stop(self) -> None:
        """Disarm the timer and drop every entry."""
        self.svc.ipvs.clock.del_timer(self)
        for bucket in self.buckets.values():
            for entry in bucket.values():
                entry.release()
        self.buckets = {}
        self.entries = 0

    def bucket_of(self, daddr: int) -> int:
        """The bucket number of an address: 0 to 1023."""
        return hash_32(fold(self.svc.af, daddr), TAB_BITS)

    def __iter__(self) -> Iterator[Entry]:
        """All entries by ascending bucket, the newest of a bucket first."""
        for number in sorted(self.buckets):
            yield from reversed(self.buckets[number].values())

    def find(self, daddr: int) -> Entry | None:
        """The entry of an address."""
        bucket = self.buckets.get(self.bucket_of(daddr))
        return bucket.get(daddr) if bucket else None

    @property
    def full(self) -> bool:
        """Are no more entries made until the next check?"""
        return self.entries >= FULL_SIZE

    def insert(self, entry: Entry) -> None:
        """Put a new entry at the front of its bucket."""
        self.buckets.setdefault(self.bucket_of(entry.daddr), {})[entry.daddr] = entry
        self.entries += 1

    def remove(self, entry: Entry) -> None:
        """Take an entry out and give its references back."""
        number = self.bucket_of(entry.daddr)
        bucket = self.buckets[number]
        del bucket[entry.daddr]
        if not bucket:
            del self.buckets[number]
        self.entries -= 1
        entry.release()

    def fire(self) -> None:
        """The check of each minute: a full one after 30 quiet ones, a partial one while the table is too large."""
        if self.counter % COUNT_FOR_FULL_EXPIRATION == 0:
            self._full_check()
            self.counter = 1
        elif self.entries <= MAX_SIZE:
            self.counter += 1
        else:
            self._partial_check()
        self.start()

    def _full_check(self) -> None:
        for number in sorted(self.buckets):
            self._sweep(number, self.expiration())

    def _partial_check(self) -> None:
        """Go on from where the last one ended, until enough entries are gone or all buckets are seen."""
        timeout = ENTRY_TIMEOUT * self.svc.ipvs.clock.hz
        goal = min((self.entries - MAX_SIZE) * 4 // 3, MAX_SIZE // 2)
        for _ in range(TAB_SIZE):
            self.rover = (self.rover + 1) % TAB_SIZE
            goal -= self._sweep(self.rover, timeout)
            if goal <= 0:
                break

    def _sweep(self, number: int, timeout: int) -> int:
        """Remove the entries of a bucket that were last used ``timeout`` jiffies ago or earlier; return how many."""
        now = self.svc.ipvs.clock.now
        stale = [entry for entry in self.buckets.get(number, {}).values() if now >= entry.lastuse + timeout]
        for entry in stale:
            self.remove(entry)
        return len(stale)


def is_overloaded(dest: Dest, svc: Service) -> bool:
    """Has the destination more active connections than weight, while another has less than half of its weight?

    Not the OVERLOAD flag, which is not looked at. source: ip_vs_lblc.c, is_overloaded
    """
    return dest.activeconns > dest.raw_weight and any(s32(other.activeconns * 2) < other.raw_weight for other in svc.destinations)
