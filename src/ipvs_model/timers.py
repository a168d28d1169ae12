"""Jiffies, the virtual clock, and the kernel's timer wheel.

Time is an integer count of jiffies (1/HZ second) that moves only when someone calls `Clock.advance`. In the mode "kernel" timers fire when the
kernel's wheel would fire them: up to 1/8 of their delay late, in the wheel's order. In the mode "exact" they fire at their tick.

How the wheel is kept. The kernel hashes a timer into one of 64 buckets of one of 9 levels, level n having a granularity of 8**n jiffies. All that
can be seen of it is the tick B at which the bucket is run and the order: earlier B first, then coarser level, then the timer that came last. So a
bucket here is a doubly linked list (threaded through the timers themselves) found by (B, level), and a heap of those keys says which is next.
Choosing another rule for B is all it takes to get the exact mode.

source: kernel/time/timer.c (__mod_timer, calc_wheel_index, __run_timers), kernel/time/time.c, kernel/workqueue.c
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, Literal, cast

from ipvs_model.jiffies import LONG_MAX, U32, initial_jiffies, seconds_to_jiffies

LVL_CLK_SHIFT: Final = 3  #: each level is 8 times coarser than the one below
LVL_SIZE: Final = 64  #: buckets in a level
LVL_DEPTH: Final = 9  #: levels; one fewer if HZ <= 100


def lvl_depth(hz: int) -> int:
    """How many levels the wheel has at this HZ."""
    return LVL_DEPTH if hz > 100 else LVL_DEPTH - 1


def lvl_gran(level: int) -> int:
    """Granularity of a level in jiffies, the largest lateness that it causes."""
    return 1 << LVL_CLK_SHIFT * level


def lvl_start(level: int) -> int:
    """Smallest delay in jiffies that goes to this level."""
    return 0 if level == 0 else (LVL_SIZE - 1) << LVL_CLK_SHIFT * (level - 1)


#: the delays at which a level above 0 begins
_STARTS: Final = tuple(lvl_start(level) for level in range(1, LVL_DEPTH))


def delay_gran(delay: int) -> int:
    """Granularity of the level that a delay goes to, in jiffies.

    >>> [delay_gran(delay) for delay in (0, 62, 63, 503, 504)]
    [1, 1, 8, 8, 64]
    """
    return lvl_gran(bisect_right(_STARTS, delay))


class Timer:
    """Something that can be armed once at a time: subclass it and override fire().

    expires is the jiffy asked for (kept after firing, as in the kernel), bucket the list it waits in, None when not pending; prev and next are its
    neighbours in that list. Timers compare by identity. A subclass that does not call __init__ must set bucket to None.
    source: include/linux/timer_types.h, struct timer_list.
    """

    __slots__ = ("bucket", "expires", "next", "prev")

    table: Any = None  #: what the timers that fire_from() may take in one go have in common; None: nothing
    expires: int
    bucket: Bucket | None
    prev: Timer  # nobody reads them while it is not pending
    next: Timer  # None then: it keeps no other timer alive

    def __init__(self) -> None:
        self.expires = 0
        self.bucket = None

    @property
    def pending(self) -> bool:
        """Armed and not yet started: also true between the start of its tick and its turn. source: timer_pending."""
        return self.bucket is not None

    def fire(self) -> None:
        """What to do when the time has come. The timer is no longer pending and may be armed again."""
        raise NotImplementedError(f"{type(self).__name__} must override fire()")

    def fire_from(self, bucket: Bucket) -> int:
        """Leave the bucket, whose first timer it is, and fire; return 1. A subclass may go on with timers of its kind behind it, and return how many."""
        bucket.next = after = self.next
        after.prev = bucket
        self.bucket = None
        self.next = UNLINKED
        self.fire()
        return 1

    def __getstate__(self) -> object:
        """The state without its place in the list: the clock keeps the places, so that copying does not walk from neighbour to neighbour."""
        whole: Any = super().__getstate__()
        attributes, slots = whole if isinstance(whole, tuple) else (whole, {})
        return attributes, {name: value for name, value in slots.items() if name not in ("bucket", "prev", "next")}

    def __reduce__(self) -> tuple[object, ...]:
        return _not_pending, (type(self),), self.__getstate__()


def _not_pending(kind: type[Timer]) -> Timer:
    """An empty timer for copying: its clock may be restored, and link it, before its own state is."""
    timer = kind.__new__(kind)
    timer.bucket = None
    return timer


UNLINKED: Final = cast(Timer, None)


class Bucket(Timer):
    """The timers that fire at one tick from one level, the last that came first. An empty bucket is linked to itself.

    tick is B, the jiffy at which it runs, 0 once the clock has dropped it; stamp the jiffy in which somebody last asked for it and may still hold it.
    """

    __slots__ = ("level", "stamp", "tick")

    def __init__(self, tick: int, level: int, stamp: int) -> None:
        self.tick = tick
        self.level = level
        self.stamp = stamp
        self.prev = self.next = self

    @property
    def key(self) -> int:
        """Its place in the order of running: earlier tick first, then coarser level."""
        return self.tick << _KEY_SHIFT | _COARSEST - self.level

    @property
    def index(self) -> int:
        """Where the kernel's wheel keeps it: 64 * level + place in the level."""
        return LVL_SIZE * self.level + (self.tick >> LVL_CLK_SHIFT * self.level) % LVL_SIZE

    def __iter__(self) -> Iterator[Timer]:
        timer = self.next
        while timer is not self:
            yield timer
            timer = timer.next

    def __repr__(self) -> str:
        return f"<Bucket at {self.tick}, level {self.level}, {sum(1 for _ in self)} timers>"

    def __reduce__(self) -> tuple[object, ...]:
        return Bucket, (self.tick, self.level, self.stamp)


#: the bucket of a `Deadline` that nobody has asked for in this jiffy; no timer is ever in it
STALE: Final = Bucket(0, 0, -1)


class Deadline:
    """A delay that many timers are armed with, and what they share in a jiffy: their expiry and their bucket.

    timeout is the delay in jiffies, 0 or more; use change() to change it. bucket is that of the current jiffy once Clock.arm_by() has been called in
    it, else STALE; expires holds with it. So a busy caller re-arms with

        if timer.bucket is deadline.bucket: timer.expires = deadline.expires
        else: clock.arm_by(timer, deadline)
    """

    __slots__ = ("also", "bucket", "expires", "kept", "timeout")

    also: Deadline | None  #: another one that has a bucket
    bucket: Bucket
    kept: Bucket  #: that of an earlier jiffy

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout
        self.expires = 0
        self.bucket = self.kept = STALE

    def change(self, timeout: int, clock: Clock) -> None:
        """Another delay from now on; timers that are armed keep theirs."""
        clock.spoil()
        self.timeout = timeout
        self.kept = STALE

    def __getstate__(self) -> Any:
        """The delay: what was found on one clock does not hold for its copy."""
        return self.timeout

    def __setstate__(self, timeout: Any) -> None:
        Deadline.__init__(self, timeout)


class FunctionTimer(Timer):
    """A timer that calls a function without arguments."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        super().__init__()
        self.callback = callback

    def fire(self) -> None:
        self.callback()


_NEVER: Final = 1 << 80  #: later than any timer
_KEY_SHIFT: Final = 4
_COARSEST: Final = (1 << _KEY_SHIFT) - 1
_FEW_BUCKETS: Final = 1024  # a wheel never has more than 9 * 64


class DelayedWork(Timer):
    """A function that runs in process context: after all timers of its tick, in the order in which the works were queued.

    source: kernel/workqueue.c, queue_delayed_work.
    """

    __slots__ = ("callback", "clock", "queued")

    def __init__(self, clock: Clock, callback: Callable[[], object]) -> None:
        super().__init__()
        self.clock = clock
        self.callback = callback
        self.queued = False  #: its delay is over and it waits for its turn

    @property
    def pending(self) -> bool:
        """Waiting for its delay or for its turn; false while it runs."""
        return self.queued or self.bucket is not None

    def queue(self, delay: int) -> bool:
        """Run after delay jiffies; False, and nothing changes, if it is pending already.

        The delay is a timer like any other: in kernel mode 1 jiffy means two ticks from now. Delay 0 needs no timer: the work runs after the timers
        of the tick that is being processed, or, outside Clock.advance, before queue() returns.
        """
        if delay < 0:
            raise ValueError(f"delay {delay} is negative")
        if self.pending:
            return False
        if delay:
            self.clock.mod_timer(self, self.clock.now + delay)
        else:
            self.clock._queue_work(self)
        return True

    def modify(self, delay: int) -> bool:
        """Forget the old delay, if any, and queue anew; True if it was pending. source: kernel/workqueue.c, mod_delayed_work."""
        was_pending = self.cancel()
        self.queue(delay)
        return was_pending

    def cancel(self) -> bool:
        """Do not run it; True if it was pending. source: kernel/workqueue.c, cancel_delayed_work."""
        return self.clock._cancel_work(self)

    def fire(self) -> None:
        self.clock._queue_work(self, from_timer=True)


class Clock:
    """Virtual time, and the timers waiting for it. Several IPVS objects may share one.

    hz: ticks a second, above 0 (kernels use 100, 250, 300, 1000). start_jiffies: where to begin, default as at boot; buckets are aligned to absolute
    jiffies, so it matters. mode: "kernel" (the timer wheel) or "exact" (a timer armed for a later tick fires at that tick, for now or the past at
    the next tick; of one tick, the timer that was put there last goes first; re-arming it to the tick it has does not move it).

    now is the current jiffy; read it freely, never set it. Pickle and copy.deepcopy keep all timers in their places.

    >>> from ipvs_model.timers import Clock, FunctionTimer
    >>> clock = Clock(hz=250)
    >>> timer = FunctionTimer(lambda: print("late by", clock.now - timer.expires))
    >>> clock.mod_timer(timer, clock.now + 900 * clock.hz)
    False
    >>> clock.advance(seconds=906)
    0
    >>> clock.advance(seconds=1)
    late by 1552
    1
    """

    __slots__ = ("_buckets", "_clk", "_cutoff", "_due", "_fresh", "_heap", "_many", "_maximum", "_running", "_starts", "_uncounted", "_wheel", "_works", "hz", "mode", "now")

    now: int

    def __init__(self, hz: int = 250, start_jiffies: int | None = None, mode: Literal["kernel", "exact"] = "kernel") -> None:
        if hz <= 0:
            raise ValueError(f"hz={hz} is not above 0")
        if mode not in ("kernel", "exact"):
            raise ValueError(f"mode={mode!r} is neither 'kernel' nor 'exact'")
        depth = lvl_depth(hz)
        self.hz = hz
        self.mode = mode
        self.now = initial_jiffies(hz) if start_jiffies is None else start_jiffies
        self._clk = self.now  # the wheel's clock: now, or now + 1 from the moment a timer of this jiffy has been run
        self._starts = tuple(lvl_start(level) for level in range(1, depth))
        self._cutoff = lvl_start(depth)
        self._maximum = lvl_start(depth) - lvl_gran(depth - 1)
        self._wheel = mode == "kernel"
        self._heap: list[int] = []  # the keys of _buckets
        self._buckets: dict[int, Bucket] = {}
        self._many = _FEW_BUCKETS
        self._works: deque[DelayedWork] = deque()
        self._running = False
        self._due = _NEVER  # advance() up to here has nothing to do but to move on; now while callbacks run or works wait
        self._fresh: Deadline | None = None  # those with a bucket are chained by `also`
        self._uncounted = 0

    @property
    def jiffies32(self) -> int:
        """The low 32 bits of now."""
        return self.now & U32

    def __repr__(self) -> str:
        return f"<Clock {self.mode}, HZ={self.hz}, jiffies {self.now}, {sum(1 for _ in self.pending_timers())} timers pending, next at {self.next_deadline()}>"

    # --- arming ---

    def mod_timer(self, timer: Timer, expires: int) -> bool:
        """Arm or re-arm a timer for the absolute jiffy expires; True if it was pending.

        Kernel mode: it fires at the first multiple of its level's granularity after expires. Re-arming to the expiry it has changes nothing at all,
        to one in the same bucket keeps its place. From expires - now = 63 * 8**(levels - 1) on it fires early, at the wheel's capacity.
        source: timer.c, __mod_timer.
        """
        was_pending = timer.bucket is not None
        self.arm_in(timer, expires, self.bucket_for(expires))
        return was_pending

    def mod_timer_pending(self, timer: Timer, expires: int) -> bool:
        """Re-arm a timer if it is pending; False, and nothing changes, if not. source: timer.c, mod_timer_pending."""
        return timer.bucket is not None and self.mod_timer(timer, expires)

    def del_timer(self, timer: Timer) -> bool:
        """Disarm a timer; True if it was pending. Its expires stays. Stands for the _sync variants too. source: timer.c, timer_delete."""
        if timer.bucket is None:
            return False
        timer.prev.next = timer.next
        timer.next.prev = timer.prev
        timer.bucket = None
        timer.prev = timer.next = UNLINKED
        return True

    def bucket_for(self, expires: int) -> Bucket:
        """The bucket that a timer armed now for expires belongs in; give it to arm_in().

        For an expiry that is not in the past it may be kept and used for many timers as long as now is the same; it is worthless afterwards (a
        Deadline looks after that). source: timer.c, calc_wheel_index.
        """
        level = 0
        if self._wheel:
            delta = expires - self._clk
            if 0 <= delta <= LONG_MAX:
                level = bisect_right(self._starts, delta)
                shift = LVL_CLK_SHIFT * level
                # The next multiple, even from a multiple: the current tick may have begun before the call.
                tick = (((expires if delta < self._cutoff else self._clk + self._maximum) >> shift) + 1) << shift
            else:
                tick = self._clk
        else:
            tick = expires if expires > self.now else self.now + 1
        key = tick << _KEY_SHIFT | _COARSEST - level
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._heap) >= self._many:
                self._sweep()
            bucket = self._buckets[key] = Bucket(tick, level, self.now)
            heappush(self._heap, key)
            self._due = min(self._due, tick)
        else:
            bucket.stamp = self.now
        return bucket

    def arm_in(self, timer: Timer, expires: int, bucket: Bucket) -> None:
        """mod_timer() for who holds the bucket of expires already (see bucket_for)."""
        old = timer.bucket
        if old is not None:
            if old is bucket or (self._wheel and timer.expires == expires) or (self._clk is not self.now and self._stays(old, bucket)):
                timer.expires = expires
                return
            timer.prev.next = timer.next
            timer.next.prev = timer.prev
        timer.expires = expires
        timer.bucket = timer.prev = bucket
        timer.next = first = bucket.next
        first.prev = bucket.next = timer

    def _stays(self, old: Bucket, bucket: Bucket) -> bool:
        """Whether a timer of the running tick, moved by a whole turn of its level, stays and runs now: the kernel compares indexes only.

        Asked when the two clocks are not the same object: they are until a timer of this jiffy has been run.
        """
        return self._wheel and old.tick < self._clk and bucket.index == old.index

    def arm_by(self, timer: Timer, deadline: Deadline) -> None:
        """mod_timer() for deadline.timeout jiffies from now.

        While the expiry stays below the bucket's tick, and so in its granule, the bucket stays the same from one jiffy to the next. Not so at the
        very delay at which a level begins, where the wheel's clock may be a jiffy ahead.
        """
        bucket = deadline.bucket
        if bucket is STALE:
            now = self.now
            deadline.expires = expires = now + deadline.timeout
            bucket = deadline.kept
            if expires < bucket.tick:
                bucket.stamp = now
            else:
                bucket = self.bucket_for(expires)
                deadline.kept = STALE if deadline.timeout in _STARTS else bucket
            deadline.bucket = bucket
            deadline.also = self._fresh
            self._fresh = deadline
        # what arm_in does, without a call; in exact mode timers of one expiry are in one bucket anyway
        expires = deadline.expires
        old = timer.bucket
        if old is not None:
            if old is bucket or timer.expires == expires or (self._clk is not self.now and self._stays(old, bucket)):
                timer.expires = expires
                return
            timer.prev.next = following = timer.next
            following.prev = timer.prev
        timer.expires = expires
        timer.bucket = timer.prev = bucket
        timer.next = first = bucket.next
        first.prev = bucket.next = timer

    def spoil(self) -> None:
        """Let no Deadline have a bucket: what was found holds no more, or is not to be used."""
        deadline = self._fresh
        while deadline is not None:
            deadline.bucket = STALE
            deadline = deadline.also
        self._fresh = None

    # --- letting time pass ---

    def advance(self, jiffies: int = 0, *, seconds: float = 0) -> int:
        """Let time pass and fire every timer that falls due; return how many fired (delayed works run too, but are not counted).

        Timers fire in the kernel's order, or at their tick with the last armed first (mode "exact"). now is each timer's tick while it fires. A
        callback may arm timers inside the window; they fire too, never in the same tick. Raises ValueError if time would go back, RuntimeError
        inside a callback. If a callback raises, now stays at its tick and the timers left in it fire at the next one.
        Time without timers costs nothing, however long.
        """
        until = self.now + jiffies
        if seconds:
            until += seconds_to_jiffies(seconds, self.hz)
        if self.now < until < self._due:
            deadline = self._fresh  # what _move does, without two calls
            while deadline is not None:
                deadline.bucket = STALE
                deadline = deadline.also
            self._fresh = None
            self.now = self._clk = until
            return 0
        return self.advance_to(until)

    def advance_to(self, jiffies: int) -> int:
        """advance() to an absolute jiffy, which may be now (then nothing happens)."""
        if self._running:
            raise RuntimeError(f"time cannot be advanced from inside a callback: {self!r}")
        if jiffies < self.now:
            raise ValueError(f"time cannot go back to jiffy {jiffies}: {self!r}")
        fired = 0
        if jiffies >= self._due:
            try:
                while (deadline := self.next_deadline()) is not None and deadline <= jiffies:
                    fired += self._run(deadline)
            finally:
                self._settle()
        if jiffies > self.now:
            self._move(jiffies)
        return fired

    def _move(self, jiffies: int) -> None:
        self.spoil()
        self.now = self._clk = jiffies

    def _settle(self) -> None:
        """Callbacks are over: see what comes next. Until then `_due` is not after now, for nothing else puts it off."""
        self._due = self.now if self._works else self._heap[0] >> _KEY_SHIFT if self._heap else _NEVER

    def next_deadline(self) -> int | None:
        """The jiffy at which the next timer fires or work runs, None if there is none; not before the next jiffy, except inside a callback."""
        earliest = self.now if self._running else self.now + 1
        if self._works:
            return earliest
        heap, buckets = self._heap, self._buckets
        held = []  # empty, but somebody may still put a timer in
        while heap and (bucket := buckets[heap[0]]).next is bucket:
            if bucket.stamp == self.now:
                held.append(heappop(heap))
            else:
                self._drop(heappop(heap))
        deadline = max(bucket.tick, earliest) if heap else None
        for key in held:
            heappush(heap, key)
        return deadline

    def _run(self, jiffies: int) -> int:
        """Process one jiffy. source: timer.c, __run_timers."""
        heap, buckets = self._heap, self._buckets
        fired = self._uncounted = 0
        self._move(jiffies)
        self._running = True
        try:
            while heap and heap[0] >> _KEY_SHIFT <= jiffies:
                bucket = buckets[heap[0]]
                if bucket.next is bucket:
                    self._drop(heappop(heap))
                    continue
                self._clk = bucket.tick + 1  # so nothing that a callback arms is due in this tick
                while (timer := bucket.next) is not bucket:
                    fired += timer.fire_from(bucket)
            self._run_works()
        finally:
            self._running = False
        return fired - self._uncounted

    def _drop(self, key: int) -> None:
        """Forget an empty bucket, which somebody may still hold."""
        self._buckets.pop(key).tick = 0

    def _sweep(self) -> None:
        """Drop buckets that have become empty before their time: in exact mode a timer that is re-armed in every tick leaves one behind each time."""
        for key, bucket in list(self._buckets.items()):
            if bucket.next is bucket and bucket.stamp != self.now:
                self._drop(key)
        self._heap[:] = self._buckets
        heapify(self._heap)
        self._many = max(_FEW_BUCKETS, 2 * len(self._heap))

    # --- delayed works ---

    def _queue_work(self, work: DelayedWork, *, from_timer: bool = False) -> None:
        self._works.append(work)
        work.queued = True
        if from_timer:
            self._uncounted += 1
        elif not self._running:
            self._running = True
            self._due = self.now
            try:
                self._run_works()
            finally:
                self._running = False
                self._settle()

    def _run_works(self) -> None:
        while self._works:
            work = self._works.popleft()
            work.queued = False
            work.callback()

    def _cancel_work(self, work: DelayedWork) -> bool:
        if work.queued:
            self._works.remove(work)
            work.queued = False
            return True
        return self.del_timer(work)

    # --- looking, copying ---

    def pending_timers(self) -> Iterator[Timer]:
        """All pending timers in the order in which they would fire. O(n); the timers must not change meanwhile."""
        for key in sorted(self._heap):
            yield from self._buckets[key]

    def check(self) -> None:
        """Recompute what must hold of the lists, and raise AssertionError naming the bucket or timer that is wrong. O(n)."""
        assert sorted(self._heap) == sorted(self._buckets), f"heap and buckets differ in {set(self._heap) ^ set(self._buckets)}"
        for bucket in self._buckets.values():
            before: Timer = bucket
            for timer in bucket:
                assert timer.bucket is bucket, f"{timer!r} stands in {bucket!r} but says {timer.bucket!r}"
                assert timer.prev is before, f"{timer!r} in {bucket!r} is linked back to {timer.prev!r} instead of {before!r}"
                assert bucket.tick >= self.now, f"{timer!r} in {bucket!r} should have fired before {self.now}"
                before = timer
            assert bucket.prev is before, f"{bucket!r} ends in {bucket.prev!r} instead of {before!r}"
        deadline = self._fresh
        while deadline is not None:
            bucket = deadline.bucket
            assert self._buckets.get(bucket.key) is bucket, f"a deadline of {deadline.timeout} jiffies holds {bucket!r}, which is gone"
            deadline = deadline.also
        for work in self._works:
            assert work.queued and work.bucket is None, f"{work!r} waits for its turn and for its delay"

    def __getstate__(self) -> dict[str, object]:
        """Plain lists in firing order: following the links would recurse once per timer."""
        if self._running:
            raise RuntimeError(f"a clock cannot be copied from inside a callback: {self!r}")
        buckets = [self._buckets[key] for key in sorted(self._heap)]
        return {
            "hz": self.hz,
            "mode": self.mode,
            "now": self.now,
            "clk": self._clk,
            "buckets": [(bucket, list(bucket)) for bucket in buckets],
            "works": list(self._works),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["hz"], state["now"], state["mode"])  # type: ignore[misc]
        self._clk = state["clk"]
        self._works.extend(state["works"])
        for bucket, timers in state["buckets"]:
            self._buckets[bucket.key] = bucket
            self._heap.append(bucket.key)  # in order, hence a heap
            for timer in timers:
                timer.bucket = bucket
                timer.prev = bucket.prev
                timer.next = bucket
                bucket.prev.next = timer
                bucket.prev = timer
        self._settle()
