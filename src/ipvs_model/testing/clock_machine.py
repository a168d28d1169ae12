"""A state machine over a clock: whatever is armed, moved and stopped fires at the same tick and in the same order as with a slow twin."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from attrs import define
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ipvs_model.testing.laws import LawBroken
from ipvs_model.timers import Clock, FunctionTimer

Mode = Literal["kernel", "exact"]
MODES: Final[st.SearchStrategy[Mode]] = st.sampled_from(("kernel", "exact"))
TIMERS: Final = 6
#: delays around the places where the wheel changes its level, and those that IPVS uses
DELAYS: Final = (0, 1, 2, 62, 63, 64, 503, 504, 505, 2500, 4031, 4032, 15000, 32255, 32256, 75000, 225000, 1801250)


@define
class Entry:
    """A pending timer of the twin."""

    name: int
    expires: int
    tick: int
    level: int
    put: int  #: when it was put into its place: the last put goes first


class NaiveClock:
    """The twin: a list of timers, searched from end to end. It knows the wheel as a rule, not as a structure.

    A timer of delay d waits on the first level n with d < 63·8ⁿ, until the next multiple of 8ⁿ behind its expiry. Armed anew for the expiry it has,
    or for the place it has, it stays where it is in the order.
    """

    def __init__(self, mode: Mode, now: int, hz: int) -> None:
        self.mode = mode
        self.now = now
        self.began = False  #: a timer of this jiffy has been run
        self.levels = 9 if hz > 100 else 8
        self.pending: dict[int, Entry] = {}
        self.puts = 0
        self.fired: list[tuple[int, int]] = []

    def place(self, expires: int) -> tuple[int, int]:
        """Tick and level of a timer armed now."""
        if self.mode == "exact":
            return max(expires, self.now + 1), 0
        clk = self.now + self.began
        delay = expires - clk
        if delay < 0:
            return max(clk, self.now + 1), 0
        level = next((n for n in range(self.levels) if delay < 63 * 8**n), None)
        if level is None:
            level = self.levels - 1
            expires = clk + 63 * 8**level - 8**level
        return (expires // 8**level + 1) * 8**level, level

    def arm(self, name: int, expires: int) -> None:
        """Arm or move a timer."""
        old = self.pending.get(name)
        tick, level = self.place(expires)
        if old is not None and self.mode == "kernel" and old.expires == expires:
            return
        if old is not None and (old.tick, old.level) == (tick, level):
            old.expires = expires
            return
        self.puts += 1
        self.pending[name] = Entry(name, expires, tick, level, self.puts)

    def stop(self, name: int) -> None:
        """Stop a timer."""
        self.pending.pop(name, None)

    def next(self) -> Entry | None:
        """Who goes next: the earliest tick, the coarsest level, the last put."""
        return min(self.pending.values(), key=lambda entry: (entry.tick, -entry.level, -entry.put), default=None)

    def advance_to(self, jiffies: int) -> None:
        """Let time pass."""
        while (entry := self.next()) is not None and entry.tick <= jiffies:
            del self.pending[entry.name]
            self.now, self.began = entry.tick, True
            self.fired.append((entry.name, entry.tick))
        if jiffies > self.now:
            self.now, self.began = jiffies, False


class ClockMachine(RuleBasedStateMachine):
    """A clock beside its twin. Override `make` to test another clock with the same calls."""

    HZ: ClassVar[int] = 250

    def make(self, mode: Mode, start: int) -> Clock:
        """The clock under test."""
        return Clock(self.HZ, start, mode)

    @initialize(mode=MODES, start=st.sampled_from((0, 4294892296, 511, 1 << 20)))
    def begins(self, mode: Mode, start: int) -> None:
        self.clock = self.make(mode, start)
        self.twin = NaiveClock(mode, start, self.HZ)
        self.fired: list[tuple[int, int]] = []
        self.timers = [FunctionTimer(lambda name=name: self.fired.append((name, self.clock.now))) for name in range(TIMERS)]  # type: ignore[misc]

    def _arm(self, name: int, expires: int) -> None:
        self.clock.mod_timer(self.timers[name], expires)
        self.twin.arm(name, expires)
        self._same("after arming")

    @rule(name=st.integers(0, TIMERS - 1), delay=st.one_of(st.sampled_from(DELAYS), st.integers(0, 600)))
    def arms(self, name: int, delay: int) -> None:
        """Arm a timer so many jiffies from now."""
        self._arm(name, self.clock.now + delay)

    @rule(name=st.integers(0, TIMERS - 1), other=st.integers(0, TIMERS - 1))
    def arms_as(self, name: int, other: int) -> None:
        """Arm a timer for the expiry that another has, or itself."""
        self._arm(name, max(self.timers[other].expires, self.clock.now))

    @rule(name=st.integers(0, TIMERS - 1))
    def arms_again(self, name: int) -> None:
        """Arm a pending timer for the expiry that it has."""
        if self.timers[name].pending:
            self._arm(name, self.timers[name].expires)

    @rule(name=st.integers(0, TIMERS - 1))
    def stops(self, name: int) -> None:
        self.clock.del_timer(self.timers[name])
        self.twin.stop(name)

    @rule(by=st.sampled_from((-1, 0, 1)))
    def to_the_deadline(self, by: int) -> None:
        """Just before, at, or after the next timer."""
        due = self.clock.next_deadline()
        if due is not None:
            self._advance(max(self.clock.now, due + by))

    @rule(jiffies=st.one_of(st.integers(0, 64), st.sampled_from(DELAYS)))
    def passes(self, jiffies: int) -> None:
        self._advance(self.clock.now + jiffies)

    def _advance(self, jiffies: int) -> None:
        self.clock.advance_to(jiffies)
        self.twin.advance_to(jiffies)
        self._same("after time has passed")

    def _same(self, when: str) -> None:
        self.clock.check()
        if self.fired != self.twin.fired:
            raise LawBroken(f"{when}: timers fired (name, jiffy) {self.fired}, a naive clock fires {self.twin.fired}")
        mine, wanted = self.clock.next_deadline(), self.twin.next()
        if mine != (wanted.tick if wanted is not None else None):
            raise LawBroken(f"{when}: the next deadline is {mine}, a naive clock says {wanted}")

    def teardown(self) -> None:
        """Everything fires in the end."""
        if hasattr(self, "clock"):
            self._advance(self.clock.now + (1 << 31))


__all__ = ["ClockMachine"]
