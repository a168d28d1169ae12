"""The clock at its edges: what holds inside works, beside empty buckets, in the first jiffies, and in copies."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from tests.timer_recorder import Recorder

from ipvs_model.timers import Bucket, Clock, Deadline, DelayedWork, FunctionTimer, delay_gran

COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


def rearm(r: Recorder, times: int) -> None:
    """Re-arm one timer in each of so many jiffies: in exact mode each leaves an empty bucket behind."""
    for _ in range(times):
        r.arm("busy", r.clock.now + 225000)
        r.clock.advance(1)


# --- what many timers share ------------------------------------------------------------------------------------------------------------------------


class Shared:
    """A clock, a deadline, and timers that are armed with it."""

    def __init__(self, delay: int, start: int = 1000) -> None:
        self.clock = Clock(start_jiffies=start)
        self.deadline = Deadline(delay)

    def arm(self, timer: FunctionTimer | None = None) -> FunctionTimer:
        timer = FunctionTimer(int) if timer is None else timer
        self.clock.arm_by(timer, self.deadline)
        return timer

    def by_hand(self, delay: int) -> FunctionTimer:
        timer = FunctionTimer(int)
        self.clock.mod_timer(timer, self.clock.now + delay)
        return timer


def test_timers_of_one_jiffy_share_bucket_and_expiry() -> None:
    s = Shared(900)
    first, second = s.arm(), s.arm()
    assert s.deadline.bucket is first.bucket is second.bucket and first.expires is second.expires
    assert list(s.clock.pending_timers()) == [second, first]
    s.arm(first)
    assert list(s.clock.pending_timers()) == [second, first]


@pytest.mark.parametrize("by", ["an idle tick", "a tick that runs a timer", "ticks beyond it"])
def test_when_time_has_moved_the_deadline_is_found_anew(by: str) -> None:
    s = Shared(900)
    first = s.arm()
    if by != "an idle tick":
        s.by_hand(2)
    s.clock.advance(1 if by == "an idle tick" else 3 if by == "a tick that runs a timer" else 5)
    assert s.deadline.bucket is not first.bucket
    assert s.arm().expires == s.clock.now + 900
    assert s.arm(first).expires == s.clock.now + 900


def test_in_a_callback_the_deadline_is_that_of_its_jiffy() -> None:
    s = Shared(900)
    s.arm()
    later = FunctionTimer(lambda: seen.append(s.arm().expires - s.clock.now))
    seen: list[int] = []
    s.clock.mod_timer(later, s.clock.now + 20)
    s.clock.advance(40)
    assert seen == [900]


def test_changed_delay_holds_at_once() -> None:
    s = Shared(900)
    first = s.arm()
    s.deadline.change(100, s.clock)
    assert s.arm().expires == s.clock.now + 100 and first.expires == s.clock.now + 900
    s.clock.advance(1)
    assert s.arm().expires == s.clock.now + 100


def arm(clock: Clock, timer: FunctionTimer, delay: int, shared: bool) -> None:
    """By a deadline, or by mod_timer."""
    if shared:
        clock.arm_by(timer, Deadline(delay))
    else:
        clock.mod_timer(timer, clock.now + delay)


@pytest.mark.parametrize(
    ("delay", "wait", "again"),
    [
        (1000, 1, 1000),  # same bucket, other expiry: keeps its place
        (1000, 70, 1000),  # the next bucket
        (900, 500, 400),  # same expiry, which alone would be in a finer bucket: nothing changes
        (900, 500, 401),
        (900, 500, 399),
        (900, 0, 900),
        (900, 0, 100),
        (10, 3, 900),
    ],
)
def test_a_deadline_arms_as_mod_timer_does(delay: int, wait: int, again: int) -> None:
    seen = []
    for shared in (True, False):
        clock = Clock(start_jiffies=1001)
        timers = [FunctionTimer(int) for _ in range(3)]
        for timer in timers:
            arm(clock, timer, delay, shared)
        clock.advance(wait)
        for timer in timers[:2]:
            arm(clock, timer, again, shared)
        clock.check()
        seen.append([(timers.index(timer), timer.expires, timer.bucket.tick, timer.bucket.level) for timer in clock.pending_timers()])
    assert seen[0] == seen[1] and len(seen[0]) == 3


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("again", "second"), [(63 * 4096, 40960), (62 * 4096, 299008), (64 * 4096 + 1, 327680)])
def test_of_the_running_tick_only_a_timer_moved_by_a_whole_turn_stays(again: int, second: int, shared: bool) -> None:
    clock = Clock(start_jiffies=0)
    fired: list[tuple[str, int]] = []
    b = FunctionTimer(lambda: fired.append(("b", clock.now)))

    def put_off() -> None:
        fired.append(("a", clock.now))
        arm(clock, b, again, shared)

    for timer in (b, FunctionTimer(put_off)):
        clock.mod_timer(timer, 40000)
    clock.advance(400000)
    assert fired == [("a", 40960), ("b", second)]


def test_at_the_delay_with_which_a_level_begins_the_bucket_is_not_kept() -> None:
    """In a jiffy in which a timer has run, the wheel counts from the next: 63 jiffies are 62 then, which belong to the finer level."""
    s = Shared(63, start=1001)
    assert s.arm().bucket.level == 1
    s.by_hand(0)
    s.clock.advance(1)
    expected = s.by_hand(63)
    assert s.arm().bucket is expected.bucket and expected.bucket.level == 0


def test_check_finds_a_deadline_of_which_the_bucket_is_gone() -> None:
    s = Shared(900)
    s.arm()
    s.clock.check()
    s.clock.del_timer(s.arm())
    s.clock.check()
    s.deadline.bucket = Bucket(s.deadline.bucket.tick, 0, 0)
    with pytest.raises(AssertionError, match="a deadline of 900 jiffies holds <Bucket at .*, level 0, 0 timers>, which is gone"):
        s.clock.check()


def test_granularity_of_a_delay() -> None:
    assert [delay_gran(delay) for delay in (0, 62, 63, 503, 504, 63 * 8**7)] == [1, 1, 8, 8, 64, 8**8]


# --- arming ----------------------------------------------------------------------------------------------------------------------------------------


def test_callback_may_put_off_a_timer_of_its_own_tick_beyond_the_end_of_the_level() -> None:
    r = Recorder(start=1000)
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: r.arm("b", 1028))  # place 1029 % 64 = 5 of level 0, before 1011 % 64 = 51
    r.clock.advance(50)
    assert r.log == [(1011, "a"), (1029, "b")]


def test_timer_of_the_running_tick_moved_by_a_whole_turn_of_a_coarse_level_runs_now() -> None:
    """Places are compared, also those far out: 256 + 10 of level 4 in both turns."""
    r = Recorder(start=0)
    r.arm("b", 40000)
    r.arm("a", 40000, lambda: r.arm("b", 40960 + 63 * 4096))
    r.clock.advance(1000000)
    assert r.log == [(40960, "a"), (40960, "b")]


def test_just_less_than_half_the_counter_away_is_the_capacity_of_the_wheel() -> None:
    clock = Clock(start_jiffies=1000)
    assert clock.bucket_for(1000 + 2**63 - 1) is clock.bucket_for(1000 + 2**40)


@pytest.mark.parametrize("level", range(8))
def test_each_level_has_64_places_of_which_63_are_in_reach(level: int) -> None:
    clock = Clock(start_jiffies=0)
    start = 63 * 8**level
    assert [clock.bucket_for(start - 1).level, clock.bucket_for(start).level] == [level, level + 1]
    assert clock.bucket_for(start - 1).index == 64 * level + 63


def test_timers_of_neighbouring_ticks_do_not_share_a_bucket() -> None:
    r = Recorder(start=1000)
    for expires in range(1000, 1062):
        r.arm(f"{expires}", expires)
    r.clock.advance(100)
    assert r.log == [(expires + 1, f"{expires}") for expires in range(1000, 1062)]


# --- letting time pass -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["kernel", "exact"])
def test_time_may_begin_at_zero(mode: str) -> None:
    r = Recorder(start=0, mode=mode)
    for expires in range(4):
        r.arm(f"{expires}", expires)
    for _ in range(5):
        r.clock.advance(1)
    late = 1 if mode == "kernel" else 0
    # exact: a timer for now fires at the next tick, behind the one armed later for that tick
    assert sorted(r.log) == sorted((max(expires + late, 1), f"{expires}") for expires in range(4))


def test_nothing_to_advance_is_no_advance() -> None:
    clock = Clock(start_jiffies=1000)
    assert (clock.advance(), clock.now) == (0, 1000)
    clock.advance(seconds=1)
    assert clock.now == 1250
    clock.advance(jiffies=1)
    assert clock.now == 1251
    with pytest.raises(TypeError, match="positional argument"):
        clock.advance(1, 1)  # type: ignore[misc]


@pytest.mark.parametrize("go_on", [lambda clock: clock.advance(1), lambda clock: clock.advance_to(clock.now + 1), lambda clock: clock.advance(0)])
@pytest.mark.parametrize("delay", [0, 5])
def test_work_cannot_advance_its_clock_either(go_on: Callable[[Clock], object], delay: int) -> None:
    clock = Clock(start_jiffies=1000)
    refused = []

    def run() -> None:
        with pytest.raises(RuntimeError, match="from inside a callback"):
            go_on(clock)
        refused.append(clock.now)

    DelayedWork(clock, run).queue(delay)  # while it runs no timer is left that would make a look worthwhile
    clock.advance(10)
    assert refused == [1000 if delay == 0 else 1006]


@pytest.mark.parametrize("go_on", [lambda clock: clock.advance(1), lambda clock: clock.advance_to(clock.now + 1)])
def test_work_behind_one_that_raised_runs_at_the_next_tick(go_on: Callable[[Clock], object]) -> None:
    clock = Clock(start_jiffies=1000)
    ran: list[int] = []
    # of one tick, the timer that was armed last fires first and queues its work first
    DelayedWork(clock, lambda: ran.append(clock.now)).queue(5)
    DelayedWork(clock, lambda: 1 // 0).queue(5)
    with pytest.raises(ZeroDivisionError):
        clock.advance(10)
    assert (clock.now, ran, clock.next_deadline()) == (1006, [], 1007)
    go_on(clock)
    assert (ran, clock.next_deadline()) == ([1007], None)


def test_after_a_work_that_needed_no_time_all_goes_on_as_before() -> None:
    clock = Clock(start_jiffies=1000)
    ran: list[int] = []
    work = DelayedWork(clock, lambda: ran.append(clock.now))
    assert (work.queue(0), work.queue(0), ran) == (True, True, [1000, 1000])
    clock.mod_timer(FunctionTimer(int), 1010)
    assert (clock.advance(20), clock.now) == (1, 1020)
    assert (work.queue(0), ran[2:]) == (True, [1020])


# --- buckets that are kept -------------------------------------------------------------------------------------------------------------------------


def test_standing_still_does_not_end_the_jiffy_of_a_kept_bucket() -> None:
    r = Recorder()
    expires = r.clock.now + 1000
    kept = r.clock.bucket_for(expires)
    r.clock.advance(0)
    assert r.clock.next_deadline() is None
    r.clock.arm_in(r.timer("x"), expires, kept)
    r.clock.check()
    assert r.clock.next_deadline() == kept.tick


def test_standing_still_does_not_end_it_when_buckets_are_swept_either() -> None:
    r = Recorder(mode="exact")
    expires = r.clock.now + 225000
    kept = r.clock.bucket_for(expires)
    r.clock.advance(0)
    for number in range(1, 2000):
        r.clock.bucket_for(expires + number)
    r.clock.arm_in(r.timer("x"), expires, kept)
    r.clock.check()
    assert r.clock.next_deadline() == expires


def test_sweeping_keeps_the_order_of_what_stays() -> None:
    r = Recorder(mode="exact")
    start = r.clock.now
    for number in range(50):  # the last to fire first, so that the order of arming is none of firing
        r.arm(f"{number}", start + 10000 - 100 * number)
    rearm(r, 3000)
    r.clock.del_timer(r.timers["busy"])
    assert r.clock.advance(20000) == 50
    assert r.log == [(start + 10000 - 100 * number, f"{number}") for number in reversed(range(50))]


def test_a_dozen_timers_that_stay_do_not_keep_empty_buckets() -> None:
    r = Recorder(mode="exact")
    for number in range(12):
        r.arm(f"{number}", r.clock.now + 1000000 + number)
    rearm(r, 4000)
    assert len(r.clock._buckets) <= 2048


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_copy_with_many_buckets_sweeps_too(copied: Callable[[Any], Any]) -> None:
    clock = Clock(mode="exact")
    works = [DelayedWork(clock, int) for _ in range(1100)]
    for number, work in enumerate(works):
        work.queue(1000000 + number)
    twin = copied(clock)
    r = Recorder(mode="exact")
    r.clock = twin
    rearm(r, 4000)
    twin.check()
    assert len(twin._buckets) <= 3300


# --- copies ----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize(("mode", "fires"), [("kernel", 4294892296 + 225000 + 1552), ("exact", 4294892296 + 225000)])
def test_copy_goes_on_in_its_mode(copied: Callable[[Any], Any], mode: Any, fires: int) -> None:
    twin = copied(Clock(mode=mode))
    assert twin.bucket_for(twin.now + 225000).tick == fires


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("level", range(9))
def test_copy_knows_its_buckets_again(copied: Callable[[Any], Any], level: int) -> None:
    clock = Clock(start_jiffies=0)
    expires = 63 * 8**level // 2 if level == 0 else 63 * 8 ** (level - 1)
    work = DelayedWork(clock, int)
    work.queue(expires)
    twin = copied(clock)
    (timer,) = twin.pending_timers()
    assert timer.bucket.level == level
    assert twin.bucket_for(expires) is timer.bucket


def test_check_finds_a_place_of_which_the_bucket_is_gone() -> None:
    r = Recorder(start=1000)
    r.arm("a", 1010)
    r.clock._buckets.clear()
    with pytest.raises(AssertionError, match="heap and buckets differ"):
        r.clock.check()


def test_advancing_by_nothing_changes_nothing():
    """After a timer of the running jiffy the wheel is a jiffy ahead, and stays so until time passes."""
    fired = []
    for waits in ([], [0]):
        clock = Clock(250, 1000)
        clock.mod_timer(FunctionTimer(lambda: None), 1000)
        clock.advance(1)
        for jiffies in waits:
            clock.advance(jiffies)
        timer = FunctionTimer(lambda clock=clock: fired.append(clock.now))
        clock.mod_timer(timer, clock.now + 63)
        clock.advance(100)
    assert fired[0] == fired[1] == 1065
