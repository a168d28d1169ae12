"""Random traces: the clock against its slow twins, against copies of itself, and the invariants of the wheel."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.naive_timers import NaiveClock, NaiveExact, WholeWheel

from ipvs_model.jiffies import initial_jiffies
from ipvs_model.timers import Clock, Deadline, FunctionTimer, lvl_depth, lvl_gran, lvl_start

HZS = (100, 250, 300, 1000)
NAMES = "abcdefgh"
STARTS = [lvl_start(level) for level in range(1, 10)]


class Fast:
    """The clock with the interface of its twins."""

    mode = "kernel"

    def __init__(self, hz: int, start: int, on_fire: Callable[[str], None]) -> None:
        self.clock = Clock(hz, start, self.mode)  # type: ignore[arg-type]
        self.timers = {name: FunctionTimer(partial(on_fire, name)) for name in NAMES}

    @property
    def now(self) -> int:
        return self.clock.now

    def mod_timer(self, name: str, expires: int) -> bool:
        return self.clock.mod_timer(self.timers[name], expires)

    def mod_timer_pending(self, name: str, expires: int) -> bool:
        return self.clock.mod_timer_pending(self.timers[name], expires)

    def del_timer(self, name: str) -> bool:
        return self.clock.del_timer(self.timers[name])

    def advance(self, jiffies: int) -> int:
        fired = self.clock.advance(jiffies)
        self.clock.check()
        return fired

    def next_deadline(self) -> int | None:
        return self.clock.next_deadline()

    def pending(self) -> list[str]:
        names = {timer: name for name, timer in self.timers.items()}
        return [names[timer] for timer in self.clock.pending_timers()]  # type: ignore[index]


class FastExact(Fast):
    mode = "exact"


class Hot(Fast):
    """The clock as the packet path uses it: one Deadline for all timers of a delay."""

    def __init__(self, hz: int, start: int, on_fire: Callable[[str], None]) -> None:
        super().__init__(hz, start, on_fire)
        self.deadlines: dict[int, Deadline] = {}
        self.changed = Deadline(0)

    def mod_timer(self, name: str, expires: int) -> bool:
        clock, timer = self.clock, self.timers[name]
        delay = expires - clock.now
        if delay < 0:
            return super().mod_timer(name, expires)
        deadline = self.deadlines.setdefault(delay, Deadline(delay))
        if delay % 7 == 0:  # one whose delay is another each time
            deadline = self.changed
            deadline.change(delay, clock)
        was_pending = timer.pending
        if timer.bucket is deadline.bucket:
            timer.expires = deadline.expires
        else:
            clock.arm_by(timer, deadline)
        return was_pending


class HotExact(Hot):
    mode = "exact"


Action = tuple[str, str, int]


class Run:
    """A program on one kind of clock; log holds everything that can be seen."""

    def __init__(self, kind: Any, hz: int, start: int, script: list[list[Action]]) -> None:
        self.script = list(reversed(script))
        self.log: list[tuple[object, ...]] = []
        self.impl = kind(hz, start, self.fired)

    def fired(self, name: str) -> None:
        self.log.append((self.impl.now, name))
        for action in self.script.pop() if self.script else ():
            self.act(action)

    def act(self, action: Action) -> None:
        op, name, delta = action
        impl = self.impl
        match op:
            case "mod":
                self.log.append((op, name, impl.mod_timer(name, impl.now + delta)))
            case "mod_pending":
                self.log.append((op, name, impl.mod_timer_pending(name, impl.now + delta)))
            case "del":
                self.log.append((op, name, impl.del_timer(name)))
            case _:
                self.log.append((op, impl.next_deadline()))

    def step(self, step: Action) -> None:
        impl = self.impl
        match step:
            case ("advance", _, jiffies):
                self.log.append(("advance", impl.advance(jiffies), impl.now))
            case ("next", _, more):
                deadline = impl.next_deadline()
                self.log.append(("next", deadline))
                if deadline is not None:
                    self.log.append(("advance", impl.advance(max(0, deadline - impl.now + more)), impl.now))
            case _:
                self.act(step)
        self.log.append((*sorted(impl.pending()), impl.next_deadline()))


future = st.one_of(
    st.integers(0, 80),
    st.sampled_from([start + near for start in STARTS for near in (-1, 0, 1)]),
    st.sampled_from([seconds * hz for seconds in (1, 2, 3, 10, 60, 900) for hz in HZS]),
    st.integers(0, 2**31),
)
any_delta = st.one_of(future, st.integers(-20, 0))


def actions(delta: st.SearchStrategy[int]) -> st.SearchStrategy[Action]:
    return st.tuples(st.sampled_from(["mod", "mod", "mod", "mod_pending", "del", "deadline"]), st.sampled_from(NAMES), delta)


def programs(delta: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int, list[list[Action]], list[Action]]]:
    step = st.one_of(
        actions(delta),
        actions(delta),
        st.tuples(st.just("advance"), st.just(""), future),
        st.tuples(st.just("next"), st.just(""), st.integers(-2, 2)),
    )
    start = st.one_of(st.sampled_from([initial_jiffies(250), 2**32, 0, 1000000]), st.integers(0, 2**33))
    return st.tuples(st.sampled_from(HZS), start, st.lists(st.lists(actions(delta), max_size=4), max_size=12), st.lists(step, min_size=4, max_size=40))


def run(kind: Any, program: Any, copied: Callable[[Any], Any] = lambda run: run) -> tuple[list[Any], Any]:
    hz, start, script, steps = program
    this = Run(kind, hz, start, script)
    for number, step in enumerate(steps):
        this.step(step)
        if number % 3 == 0:
            this = copied(this)
    return this.log, this.impl


@given(programs(any_delta))
def test_clock_naive_clock_and_whole_wheel_agree(program: Any) -> None:
    log, clock = run(Fast, program)
    naive_log, naive = run(NaiveClock, program)
    assert log == naive_log
    assert clock.pending() == naive.pending()
    assert log == run(WholeWheel, program)[0]


@given(programs(future))
def test_keeping_buckets_for_the_jiffy_changes_nothing(program: Any) -> None:
    assert run(Hot, program)[0] == run(NaiveClock, program)[0]


@given(programs(any_delta))
def test_exact_mode_agrees_with_its_twin(program: Any) -> None:
    log, clock = run(FastExact, program)
    naive_log, naive = run(NaiveExact, program)
    assert log == naive_log == run(HotExact, program)[0]
    assert clock.pending() == naive.pending()


@given(programs(any_delta), st.sampled_from([Fast, FastExact, Hot]), st.sampled_from(["deepcopy", "pickle"]))
def test_copies_go_on_as_the_original_would(program: Any, kind: Any, way: str) -> None:
    copied = copy.deepcopy if way == "deepcopy" else lambda run: pickle.loads(pickle.dumps(run))
    assert run(kind, program, copied)[0] == run(kind, program)[0]


@given(st.sampled_from(HZS), st.integers(0, 2**33), st.data())
def test_lateness_is_between_one_jiffy_and_the_granularity(hz: int, now: int, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, lvl_depth(hz) - 1), "level")
    delta = data.draw(st.integers(lvl_start(level), lvl_start(level + 1) - 1), "delta")
    bucket = Clock(hz, now).bucket_for(now + delta)
    assert bucket.level == level
    assert 1 <= bucket.tick - (now + delta) <= lvl_gran(level)
    assert bucket.tick > now
    assert bucket.tick // lvl_gran(level) - now // lvl_gran(level) <= 64


@given(st.sampled_from(HZS), st.integers(0, 2**33), st.integers(0, 2**40))
def test_beyond_the_capacity_a_timer_fires_at_the_capacity(hz: int, now: int, more: int) -> None:
    depth = lvl_depth(hz)
    cutoff = lvl_start(depth)
    maximum = cutoff - lvl_gran(depth - 1)
    tick = Clock(hz, now).bucket_for(now + cutoff + more).tick
    assert now + maximum < tick <= now + maximum + lvl_gran(depth - 1)


@given(st.sampled_from(HZS), st.integers(0, 2**33), st.integers(1, 1000000))
def test_whole_seconds_do_not_depend_on_the_clock_being_one_ahead(hz: int, now: int, seconds: int) -> None:
    clock = Clock(hz, now)
    clock.mod_timer(FunctionTimer(int), now)
    clock.advance(1)
    expires = now + 1 + seconds * hz
    assert clock.bucket_for(expires).tick == Clock(hz, now + 1).bucket_for(expires).tick


@given(st.integers(0, 2**33), future, future)
def test_rearming_to_the_same_expiry_never_changes_the_tick(now: int, delta: int, wait: int) -> None:
    clock = Clock(start_jiffies=now)
    timer = FunctionTimer(int)
    clock.mod_timer(timer, now + delta)
    deadline = clock.next_deadline()
    assert deadline is not None
    clock.advance(min(wait, deadline - now - 1))
    clock.mod_timer(timer, now + delta)
    assert clock.next_deadline() == deadline


@given(st.integers(0, 2**33), st.lists(any_delta, min_size=1, max_size=20))
def test_exact_mode_fires_each_timer_once_and_never_late(now: int, deltas: list[int]) -> None:
    clock = Clock(start_jiffies=now, mode="exact")
    log: list[tuple[int, int]] = []

    def fired(number: int) -> None:
        log.append((clock.now, number))

    for number, delta in enumerate(deltas):
        clock.mod_timer(FunctionTimer(partial(fired, number)), now + delta)
    assert clock.advance(2**32) == len(deltas)
    assert log == sorted(((now + max(delta, 1), number) for number, delta in enumerate(deltas)), key=lambda entry: (entry[0], -entry[1]))
