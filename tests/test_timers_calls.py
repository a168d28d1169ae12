"""What the calls of the clock promise: arming, order, delayed works, misuse, the exact mode, copies."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.timer_recorder import Recorder, periodic

from ipvs_model.jiffies import initial_jiffies
from ipvs_model.timers import Bucket, Clock, DelayedWork, Timer, lvl_depth, lvl_gran, lvl_start

# --- 5: operations ---------------------------------------------------------------------------------------------------------------------------------


def test_rearming_to_the_same_expiry_keeps_the_coarser_bucket() -> None:
    r = Recorder()
    assert not r.arm("x", 4295117296)
    r.clock.advance(seconds=780)
    assert r.clock.now + 120 * 250 == 4295117296
    assert r.arm("x", 4295117296)
    r.arm("fresh", 4295117296)
    r.clock.advance(seconds=130)
    assert r.log == [(4295117312, "fresh"), (4295118848, "x")]


def test_operations_return_whether_the_timer_was_pending() -> None:
    r = Recorder(start=1000)
    timer = r.timer("x")
    assert not timer.pending
    assert not r.clock.mod_timer_pending(timer, 1100)
    assert not r.clock.del_timer(timer)
    assert not timer.pending
    assert not r.clock.mod_timer(timer, 1100)
    assert timer.pending
    assert r.clock.mod_timer(timer, 1200)
    assert r.clock.mod_timer_pending(timer, 1300)
    assert r.clock.del_timer(timer)
    assert not timer.pending
    assert timer.expires == 1300
    assert r.clock.next_deadline() is None
    r.clock.advance(1000)
    assert r.log == []


def test_timer_is_not_pending_while_it_runs() -> None:
    r = Recorder(start=1000)
    seen = []
    r.arm("x", 1000, lambda: seen.append(r.timers["x"].pending))
    r.clock.advance(1)
    assert seen == [False]


def test_callback_may_delete_a_timer_of_its_own_tick() -> None:
    r = Recorder(start=1000)
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: deleted.append(r.clock.del_timer(r.timers["b"])))
    deleted: list[bool] = []
    assert r.clock.advance(20) == 1
    assert (r.order(), deleted) == ("a", [True])


def test_callback_may_put_off_a_timer_of_its_own_tick() -> None:
    r = Recorder(start=1000)
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: r.arm("b", 1015))
    r.clock.advance(20)
    assert r.log == [(1011, "a"), (1016, "b")]


def test_same_expiry_leaves_a_timer_in_the_running_tick() -> None:
    r = Recorder(start=1000)
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: r.arm("b", 1010))
    r.clock.advance(20)
    assert r.log == [(1011, "a"), (1011, "b")]


def test_timer_of_the_running_tick_moved_by_a_whole_turn_of_its_level_runs_now() -> None:
    """Indexes are compared, not ticks; no whole number of seconds comes here."""
    r = Recorder(start=1000)
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: r.arm("b", 1011 + 63))
    r.clock.advance(20)
    assert r.log == [(1011, "a"), (1011, "b")]


def test_bucket_may_be_kept_for_the_current_jiffy() -> None:
    r = Recorder()
    clock = r.clock
    expires = clock.now + 900 * 250
    bucket = clock.bucket_for(expires)
    assert clock.next_deadline() is None
    assert clock.bucket_for(expires) is bucket
    for name in "abc":
        clock.arm_in(r.timer(name), expires, bucket)
    r.clock.arm_in(r.timer("a"), expires, bucket)
    clock.check()
    assert clock.next_deadline() == 4295118848
    clock.advance(seconds=1000)
    assert r.order() == "cba"


def test_kept_bucket_that_was_used_and_emptied_before_survives_a_look_at_the_deadline() -> None:
    r = Recorder(start=1000)
    bucket = r.clock.bucket_for(1000 + 800)
    r.arm("x", 1000 + 800)
    r.clock.advance(1)
    r.clock.del_timer(r.timers["x"])
    assert r.clock.bucket_for(1000 + 800) is bucket
    assert r.clock.next_deadline() is None
    r.clock.arm_in(r.timers["x"], 1000 + 800, bucket)
    assert r.clock.next_deadline() == bucket.tick


# --- 6: order --------------------------------------------------------------------------------------------------------------------------------------


def test_last_queued_runs_first_and_the_same_bucket_keeps_the_place() -> None:
    r = Recorder(start=1000)
    for name, expires in (("a", 3500), ("c", 3501), ("d", 3502), ("a", 3510)):
        r.arm(name, expires)
    r.clock.advance_to(3520)
    assert r.log == [(3520, "d"), (3520, "c"), (3520, "a")]


def test_coarser_levels_run_first() -> None:
    r = Recorder(start=40960)
    r.arm("z", 45060)
    r.clock.advance_to(45468)
    r.arm("y", 45567)
    r.clock.advance_to(45558)
    r.arm("x", 45567)
    assert [bucket.level for timer in r.clock.pending_timers() if (bucket := timer.bucket)] == [3, 1, 0]
    r.clock.advance_to(45568)
    assert r.log == [(45568, "z"), (45568, "y"), (45568, "x")]


@pytest.mark.parametrize("level", range(8))
def test_of_two_neighbouring_levels_the_coarser_runs_first(level: int) -> None:
    tick = 100 * lvl_gran(level + 1)
    expires = tick - 1
    r = Recorder(start=expires - lvl_start(level + 1))
    r.arm("coarse", expires)
    r.clock.advance_to(expires - lvl_start(level))
    r.arm("fine", expires)
    assert [timer.bucket.level for timer in r.timers.values() if timer.bucket] == [level + 1, level]
    r.clock.advance_to(tick)
    assert r.log == [(tick, "coarse"), (tick, "fine")]


def test_ticks_run_in_ascending_order() -> None:
    r = Recorder(start=5000)
    for number, expires in enumerate((5030, 5010, 5020, 5010)):
        r.arm(f"{number}", expires)
    assert r.clock.advance(100) == 4
    assert r.log == [(5011, "3"), (5011, "1"), (5021, "2"), (5031, "0")]


# --- delayed works ---------------------------------------------------------------------------------------------------------------------------------


def test_works_run_after_the_timers_of_their_tick_in_the_order_of_queueing() -> None:
    r = Recorder(start=1000)
    clock, log = r.clock, r.log
    at_once = DelayedWork(clock, lambda: log.append((clock.now, "0")))
    first = DelayedWork(clock, lambda: log.append((clock.now, "1")))
    second = DelayedWork(clock, lambda: log.append((clock.now, "2")))
    r.arm("a", 1010, lambda: at_once.queue(0))
    first.queue(10)
    second.queue(10)
    r.arm("b", 1010)
    assert clock.advance(20) == 2
    assert log == [(1011, "b"), (1011, "a"), (1011, "2"), (1011, "1"), (1011, "0")]


def test_pending_work_keeps_its_first_expiry() -> None:
    clock = Clock(start_jiffies=1000)
    ran: list[int] = []
    work = DelayedWork(clock, lambda: ran.append(clock.now))
    assert work.queue(10)
    assert work.pending
    assert not work.queue(1)
    assert not work.queue(0)
    assert ran == []
    assert work.modify(20)
    assert clock.next_deadline() == 1021
    assert work.cancel()
    assert not work.cancel()
    assert not work.pending
    assert not work.modify(5)
    clock.advance(100)
    assert ran == [1006]


def test_work_without_delay_runs_at_once_outside_and_queued_works_follow() -> None:
    clock = Clock(start_jiffies=1000)
    ran: list[str] = []

    def run() -> None:
        ran.append("begin")
        if len(ran) < 5:
            assert not work.pending
            assert work.queue(0)
            assert work.pending
        ran.append("end")

    work = DelayedWork(clock, run)
    work.queue(0)
    assert ran == ["begin", "end"] * 3
    assert not work.pending
    assert clock.advance(1) == 0


def test_work_may_be_cancelled_after_its_delay_and_before_its_turn() -> None:
    clock = Clock(start_jiffies=1000)
    work = DelayedWork(clock, lambda: pytest.fail("cancelled"))
    canceller = DelayedWork(clock, lambda: cancelled.append(work.cancel()))
    cancelled: list[bool] = []
    work.queue(10)
    canceller.queue(10)
    clock.advance(100)
    assert cancelled == [True]
    assert not work.pending
    assert work.queue(5)


def test_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="delay -1"):
        DelayedWork(Clock(), int).queue(-1)


# --- misuse ----------------------------------------------------------------------------------------------------------------------------------------


def test_time_does_not_go_back() -> None:
    clock = Clock(start_jiffies=1000)
    for go_back in (partial(clock.advance, -1), partial(clock.advance_to, 999), partial(clock.advance, seconds=-1)):
        with pytest.raises(ValueError, match=r"cannot go back to jiffy \d+: <Clock kernel, HZ=250, jiffies 1000, 0 timers pending, next at None>"):
            go_back()


def test_callback_cannot_advance_or_copy_its_clock() -> None:
    r = Recorder(start=1000)

    def misuse() -> None:
        with pytest.raises(RuntimeError, match="inside a callback"):
            r.clock.advance(1)
        with pytest.raises(RuntimeError, match="inside a callback"):
            copy.deepcopy(r.clock)

    r.arm("x", 1000, misuse)
    assert r.clock.advance(1) == 1


@pytest.mark.parametrize("arguments", [{"hz": 0}, {"hz": -250}, {"mode": "wheel"}])
def test_bad_clock_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is n"):
        Clock(**arguments)


def test_timer_must_override_fire() -> None:
    clock = Clock()
    clock.mod_timer(Timer(), clock.now)
    with pytest.raises(NotImplementedError, match="Timer must override fire"):
        clock.advance(1)


@pytest.mark.parametrize("mode", ["kernel", "exact"])
def test_callback_that_raises_loses_nothing_but_itself(mode: str) -> None:
    r = Recorder(start=1000, mode=mode)
    work = DelayedWork(r.clock, lambda: r.log.append((r.clock.now, "w")))
    for name in "abc":
        r.arm(name, 1010, {"b": lambda: 1 // 0, "c": lambda: work.queue(0)}.get(name, int))
    with pytest.raises(ZeroDivisionError):
        r.clock.advance(20)
    r.clock.check()
    tick = r.clock.now
    assert r.log == [(tick, "c"), (tick, "b")]
    assert r.clock.next_deadline() == tick + 1
    r.clock.advance(20)
    assert r.log[2:] == [(tick + 1, "a"), (tick + 1, "w")]


def test_check_names_the_culprit() -> None:
    r = Recorder(start=1000)
    r.arm("a", 1010)
    r.arm("b", 1010)
    r.clock.check()
    r.timers["b"].prev = r.timers["a"]
    with pytest.raises(AssertionError, match=r"is linked back to .* in"):
        r.clock.check()


def late(clock: Clock, timer: Timer) -> None:
    clock.now += 100


def says_another_bucket(clock: Clock, timer: Timer) -> None:
    timer.bucket = Bucket(1010, 0, 1000)


def cut_off(clock: Clock, timer: Timer) -> None:
    assert timer.bucket is not None
    timer.bucket.prev = timer.bucket


def bucket_lost(clock: Clock, timer: Timer) -> None:
    clock._heap.clear()


def bucket_unknown(clock: Clock, timer: Timer) -> None:
    clock._heap.append(1)


def work_not_queued(clock: Clock, timer: Timer) -> None:
    clock._works.append(DelayedWork(clock, int))


def work_with_a_delay(clock: Clock, timer: Timer) -> None:
    work = DelayedWork(clock, int)
    work.queue(5)
    work.queued = True
    clock._works.append(work)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (late, "should have fired before 1100"), (says_another_bucket, "stands in .* but says"), (cut_off, "ends in"), (bucket_lost, r"heap and buckets differ in \{16191\}"),
        (bucket_unknown, r"heap and buckets differ in \{1\}"), (work_not_queued, "waits for its turn"), (work_with_a_delay, "waits for its turn"),
    ],
)  # fmt: skip
def test_check_finds_each_kind_of_harm(harm: Callable[[Clock, Timer], None], said: str) -> None:
    r = Recorder(start=1000)
    r.arm("a", 1010)
    harm(r.clock, r.timers["a"])
    with pytest.raises(AssertionError, match=said):
        r.clock.check()


# --- 12: exact mode --------------------------------------------------------------------------------------------------------------------------------


def test_exact_mode_fires_at_the_expiry_last_armed_first() -> None:
    r = Recorder(start=1000, mode="exact")
    for name, expires in (("a", 1010), ("b", 1010), ("past", 5), ("now", 1000), ("next", 1001), ("a", 1020), ("a", 1010), ("b", 1010)):
        r.arm(name, expires)
    r.clock.advance(20)
    assert r.log == [(1001, "next"), (1001, "now"), (1001, "past"), (1010, "a"), (1010, "b")]


def test_exact_mode_moves_a_timer_out_of_the_running_tick() -> None:
    r = Recorder(start=1000, mode="exact")
    r.arm("b", 1010)
    r.arm("a", 1010, lambda: r.arm("b", 1010))
    r.clock.advance(20)
    assert r.log == [(1010, "a"), (1011, "b")]


def test_exact_mode_has_exact_periods() -> None:
    clock = Clock(mode="exact")
    ran: list[int] = []
    work = periodic(clock, 250, ran)
    work.queue(250)
    clock.advance(seconds=4)
    assert [at - initial_jiffies(250) for at in ran] == [250, 500, 750, 1000]


def test_exact_mode_forgets_buckets_that_have_become_empty() -> None:
    r = Recorder(mode="exact")
    for _ in range(5000):
        r.arm("x", r.clock.now + 225000)
        r.clock.advance(1)
    assert len(r.clock._buckets) <= 2048
    r.clock.check()
    assert r.clock.next_deadline() == r.clock.now + 224999


def test_exact_mode_does_not_forget_a_bucket_that_is_kept_for_the_current_jiffy() -> None:
    r = Recorder(mode="exact")
    expires = r.clock.now + 225000
    kept = r.clock.bucket_for(expires)
    for number in range(1, 5000):
        r.clock.bucket_for(expires + number)
    r.clock.arm_in(r.timer("x"), expires, kept)
    r.clock.check()
    assert r.clock.next_deadline() == expires


def test_what_a_clock_and_a_bucket_say_of_themselves() -> None:
    r = Recorder(start=1000)
    assert r.timer("a").expires == 0
    for name in "ab":
        r.arm(name, 1010)
    (bucket,) = {timer.bucket for timer in r.timers.values()}
    assert repr(bucket) == "<Bucket at 1011, level 0, 2 timers>"
    assert repr(r.clock) == "<Clock kernel, HZ=250, jiffies 1000, 2 timers pending, next at 1011>"


def test_a_callback_cannot_even_stand_still() -> None:
    r = Recorder(start=1000)
    r.arm("a", 1010, lambda: r.clock.advance(0))
    with pytest.raises(RuntimeError, match="from inside a callback"):
        r.clock.advance(20)


def test_slow_kernels_have_a_level_less() -> None:
    assert [lvl_depth(hz) for hz in (1, 100, 101, 250, 1000)] == [8, 8, 9, 9, 9]
    assert Clock(1).hz == 1


# --- copies ----------------------------------------------------------------------------------------------------------------------------------------


class Host:
    """What stands for a namespace: it and its timers know each other and the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.flows: list[Flow] = []
        self.gone: list[tuple[int, int]] = []


class Flow(Timer):
    __slots__ = ("host", "number")

    def __init__(self, host: Host, number: int) -> None:
        self.bucket = None
        self.host = host
        self.number = number

    def fire(self) -> None:
        self.host.gone.append((self.host.clock.now, self.number))


class Loose(Flow):
    """A subclass with a __dict__."""


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda host: pickle.loads(pickle.dumps(host))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("root", ["host", "timer", "clock"])
def test_copy_with_many_timers_keeps_every_place(copied: Callable[[Any], Any], root: str) -> None:
    clock = Clock()
    host = Host(clock)
    host.flows = [(Loose if number % 1000 == 0 else Flow)(host, number) for number in range(20000)]
    for flow in host.flows:
        clock.mod_timer(flow, clock.now + 900 * 250 + flow.number % 7 * 1000)
    host.flows[0].note = "kept"  # type: ignore[attr-defined]
    twin: Host
    if root == "host":
        twin = copied(host)
    elif root == "timer":
        twin = copied(host.flows[5]).host
    else:
        twin = next(iter(copied(clock).pending_timers())).host
    twin.clock.check()
    assert twin.flows[0].note == "kept"  # type: ignore[attr-defined]
    assert twin.flows[0].expires == host.flows[0].expires
    host.clock.advance(seconds=1000)
    assert (len(host.gone), len(twin.gone)) == (20000, 0)
    twin.clock.advance(seconds=1000)
    assert twin.gone == host.gone


def test_copy_keeps_levels_apart_and_takes_more_timers() -> None:
    clock = Clock(start_jiffies=1000)
    host = Host(clock)
    coarse, fine, more = (Flow(host, number) for number in range(3))
    host.flows = [coarse, fine, more]
    clock.mod_timer(coarse, 1063)
    clock.advance(10)
    clock.mod_timer(fine, 1063)
    twin = copy.deepcopy(host)
    for each in (host, twin):
        each.clock.mod_timer(each.flows[2], 1063)
        each.clock.check()
        each.clock.advance(100)
        assert each.gone == [(1064, 0), (1064, 2), (1064, 1)]


def test_copy_keeps_a_work_that_waits_for_its_turn() -> None:
    r = Recorder(start=1000)
    ran: list[str] = []
    work = DelayedWork(r.clock, partial(ran.append, "work"))
    r.arm("b", 1010, lambda: 1 // 0)
    r.arm("a", 1010, lambda: work.queue(0))
    with pytest.raises(ZeroDivisionError):
        r.clock.advance(20)
    twin = copy.deepcopy(r.clock)
    assert ran == []
    twin.advance(1)
    assert ran == ["work"]


def test_shallow_copy_of_a_timer_is_not_pending() -> None:
    clock = Clock()
    flow = Flow(Host(clock), 1)
    clock.mod_timer(flow, clock.now + 5)
    twin = copy.copy(flow)
    assert flow.pending
    assert not twin.pending
    assert twin.expires == flow.expires


def test_bucket_kept_by_a_caller_stays_the_clocks_own_in_the_copy() -> None:
    clock = Clock()
    bucket = clock.bucket_for(clock.now + 5)
    twin: tuple[Clock, Bucket] = copy.deepcopy((clock, bucket))
    assert twin[0].bucket_for(clock.now + 5) is twin[1]
    assert twin[1] is not bucket


def test_copy_made_after_a_timer_of_the_jiffy_keeps_the_wheels_clock_one_ahead() -> None:
    r = Recorder(start=1000)
    r.arm("x", 1000)
    r.clock.advance(1)
    twin = pickle.loads(pickle.dumps(r.clock))
    assert twin.bucket_for(1001 + 63).level == r.clock.bucket_for(1001 + 63).level == 0
