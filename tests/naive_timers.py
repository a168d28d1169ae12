"""Two slow twins of the clock, written from the description of the wheel and not from the code: timers are names, nothing is optimized.

NaiveClock is the short form: a table of pending timers with their tick, level and sequence number, searched from end to end.
WholeWheel is the real thing: 64 buckets a level, indexes only, a clock that is forwarded, collection of the buckets of a tick.
NaiveExact is the exact mode: a table of ticks and sequence numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

M64 = 2**64


def place(expires: int, clk: int, depth: int) -> tuple[int, int]:
    """The level of an expiry and the tick of its bucket, by trying one level after the other."""
    starts = [0] + [63 * 8 ** (n - 1) for n in range(1, depth + 1)]
    delta = (expires - clk) % M64
    for n in range(depth - 1):
        if starts[n] <= delta < starts[n + 1]:
            level = n
            break
    else:
        if delta >= 2**63:
            return 0, clk
        level = depth - 1
        if delta >= starts[depth]:
            expires = clk + starts[depth] - 8 ** (depth - 1)
    return level, (expires // 8**level + 1) * 8**level


@dataclass
class Entry:
    name: str
    expires: int
    level: int
    tick: int
    seq: int

    @property
    def index(self) -> int:
        return 64 * self.level + (self.tick >> 3 * self.level) % 64


class NaiveClock:
    def __init__(self, hz: int, start: int, on_fire: Callable[[str], None]) -> None:
        self.depth = 9 if hz > 100 else 8
        self.now = self.clk = start
        self.on_fire = on_fire
        self.entries: dict[str, Entry] = {}
        self.seq = 0
        self.running = False

    def mod_timer(self, name: str, expires: int) -> bool:
        old = self.entries.get(name)
        if old is not None and old.expires == expires:
            return True
        level, tick = place(expires, self.clk, self.depth)
        self.seq += 1
        new = Entry(name, expires, level, tick, self.seq)
        if old is not None and old.index == new.index:
            old.expires = expires
        else:
            self.entries[name] = new
        return old is not None

    def mod_timer_pending(self, name: str, expires: int) -> bool:
        return name in self.entries and self.mod_timer(name, expires)

    def del_timer(self, name: str) -> bool:
        return self.entries.pop(name, None) is not None

    def in_order(self) -> list[Entry]:
        return sorted(self.entries.values(), key=lambda entry: (entry.tick, -entry.level, -entry.seq))

    def next_deadline(self) -> int | None:
        earliest = self.now if self.running else self.now + 1
        return max(self.in_order()[0].tick, earliest) if self.entries else None

    def advance(self, jiffies: int) -> int:
        target = self.now + jiffies
        fired = 0
        while (deadline := self.next_deadline()) is not None and deadline <= target:
            self.now = self.clk = deadline
            self.running = True
            while self.entries and (tick := self.in_order()[0].tick) <= self.now:
                self.clk = tick + 1
                for entry in self.in_order():
                    if entry.tick == tick and self.entries.get(entry.name) is entry:
                        del self.entries[entry.name]
                        fired += 1
                        self.on_fire(entry.name)
            self.running = False
        if target > self.now:
            self.now = self.clk = target
        return fired

    def pending(self) -> list[str]:
        return [entry.name for entry in self.in_order()]


class NaiveExact(NaiveClock):
    def mod_timer(self, name: str, expires: int) -> bool:
        old = self.entries.get(name)
        tick = expires if expires > self.now else self.now + 1
        self.seq += 1
        if old is not None and old.tick == tick:
            old.expires = expires
        else:
            self.entries[name] = Entry(name, expires, 0, tick, self.seq)
        return old is not None


class WholeWheel:
    def __init__(self, hz: int, start: int, on_fire: Callable[[str], None]) -> None:
        self.depth = 9 if hz > 100 else 8
        self.now = self.clk = start
        self.on_fire = on_fire
        self.vectors: list[list[str]] = [[] for _ in range(64 * self.depth)]  # the head of a bucket is its first element
        self.heads: list[list[str]] = []  # collected, from the highest level to the lowest
        self.running = False
        self.index: dict[str, int] = {}  # of the pending timers
        self.expires: dict[str, int] = {}

    def next_expiry(self) -> int | None:
        """The earliest tick, from the clock's on, at which a bucket that holds something is collected."""
        ticks = []
        for index, bucket in enumerate(self.vectors):
            if bucket:
                level, place_in_level = divmod(index, 64)
                first = -(-self.clk // 8**level)
                ticks.append((first + (place_in_level - first) % 64) * 8**level)
        return min(ticks, default=None)

    def forward(self) -> None:
        if self.now > self.clk:
            expiry = self.next_expiry()
            self.clk = self.now if expiry is None or expiry > self.now else max(self.clk, expiry)

    def detach(self, name: str) -> None:
        del self.index[name]
        for bucket in self.vectors + self.heads:
            if name in bucket:
                bucket.remove(name)

    def mod_timer(self, name: str, expires: int) -> bool:
        was_pending = name in self.index
        if was_pending and self.expires[name] == expires:
            return True
        self.forward()
        level, tick = place(expires, self.clk, self.depth)
        index = 64 * level + tick // 8**level % 64
        self.expires[name] = expires
        if was_pending:
            if self.index[name] == index:
                return True
            self.detach(name)
        self.index[name] = index
        self.vectors[index].insert(0, name)
        return was_pending

    def mod_timer_pending(self, name: str, expires: int) -> bool:
        return name in self.index and self.mod_timer(name, expires)

    def del_timer(self, name: str) -> bool:
        if name not in self.index:
            return False
        self.detach(name)
        return True

    def collect(self, tick: int) -> None:
        self.clk = tick
        self.heads = []
        for level in range(self.depth):
            if level and tick % 8**level:
                break
            index = 64 * level + tick // 8**level % 64
            self.heads.insert(0, self.vectors[index])
            self.vectors[index] = []
        self.clk += 1

    def advance(self, jiffies: int) -> int:
        target = self.now + jiffies
        fired = 0
        while (expiry := self.next_expiry()) is not None and max(expiry, self.now + 1) <= target:
            self.now = max(expiry, self.now + 1)
            self.running = True
            while (tick := self.next_expiry()) is not None and tick <= self.now:
                self.collect(tick)
                for bucket in self.heads:
                    while bucket:
                        name = bucket.pop(0)
                        del self.index[name]
                        fired += 1
                        self.on_fire(name)
                self.heads = []
            self.running = False
        self.now = target
        return fired

    def next_deadline(self) -> int | None:
        if any(self.heads):
            return self.now
        expiry = self.next_expiry()
        return None if expiry is None else max(expiry, self.now if self.running else self.now + 1)

    def pending(self) -> list[str]:
        """In no useful order: the buckets do not know their ticks."""
        return list(self.index)
