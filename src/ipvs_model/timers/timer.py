"""Timers and the lists they wait in. source: include/linux/timer_types.h, struct timer_list; kernel/time/timer.c, the levels of the wheel"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

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


class Timer:
    """Something that can be armed once at a time: subclass it and override fire().

    expires is the jiffy asked for (kept after firing, as in the kernel), bucket the list it waits in, None when not pending; prev and next are its
    neighbours in that list. Timers compare by identity. A subclass that does not call __init__ must set bucket to None.
    source: include/linux/timer_types.h, struct timer_list.
    """

    __slots__ = ("bucket", "expires", "next", "prev")

    expires: int
    bucket: Bucket | None
    prev: Timer  # both None while not pending, when nobody reads them
    next: Timer

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

    tick is B, the jiffy at which it runs; stamp the jiffy in which somebody last asked for it and may still hold it.
    """

    __slots__ = ("level", "stamp", "tick")

    def __init__(self, tick: int, level: int, stamp: int) -> None:
        self.tick = tick
        self.level = level
        self.stamp = stamp
        self.prev = self.next = self

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


class FunctionTimer(Timer):
    """A timer that calls a function without arguments."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        super().__init__()
        self.callback = callback

    def fire(self) -> None:
        self.callback()
