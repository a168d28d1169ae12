"""What the tests of the clock watch it with."""

from collections.abc import Callable
from typing import Any

from ipvs_model.timers import Clock, DelayedWork, FunctionTimer


class Recorder:
    """A clock with named timers that write (jiffy, name) into a log."""

    def __init__(self, hz: int = 250, start: int | None = None, mode: Any = "kernel") -> None:
        self.clock = Clock(hz, start, mode)
        self.log: list[tuple[int, str]] = []
        self.timers: dict[str, FunctionTimer] = {}

    def timer(self, name: str, then: Callable[[], object] = int) -> FunctionTimer:
        def fired() -> None:
            self.log.append((self.clock.now, name))
            then()

        return self.timers.setdefault(name, FunctionTimer(fired))

    def arm(self, name: str, expires: int, then: Callable[[], object] = int) -> bool:
        return self.clock.mod_timer(self.timer(name, then), expires)

    def order(self) -> str:
        return "".join(name for _, name in self.log)


def periodic(clock: Clock, delay: int, ran: list[int]) -> DelayedWork:
    """A work that queues itself again."""

    def run() -> None:
        ran.append(clock.now)
        work.queue(delay)

    work = DelayedWork(clock, run)
    return work
