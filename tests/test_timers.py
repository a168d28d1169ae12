"""The clock against every row of the description of the wheel."""

import itertools

import pytest
from tests.timer_recorder import Recorder, periodic

from ipvs_model.jiffies import (
    expires_seconds,
    initial_jiffies,
    jiffies_to_msecs,
    jiffies_to_seconds,
    jiffies_to_sync_seconds,
    max_timeout_seconds,
    persistence_to_jiffies,
    seconds_to_jiffies,
    sync_seconds_to_jiffies,
)
from ipvs_model.timers import Clock, DelayedWork, lvl_depth, lvl_gran, lvl_start

HZS = (100, 250, 300, 1000)


# --- 1, 8: jiffies and conversions -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hz", "jiffies"), [(100, 4294937296), (250, 4294892296), (300, 4294877296), (1000, 4294667296)])
def test_jiffies_begin_five_minutes_before_the_low_half_wraps(hz: int, jiffies: int) -> None:
    assert initial_jiffies(hz) == Clock(hz).now == Clock(hz).jiffies32 == jiffies
    clock = Clock(hz)
    clock.advance(seconds=300)
    assert (clock.now, clock.jiffies32) == (2**32, 0)


@pytest.mark.parametrize(
    ("hz", "jiffies", "msecs"),
    [
        (100, 7, 70),
        (250, 7, 28),
        (1000, 7, 7),
        (300, 299, 997),
        (300, 300, 1000),
        (300, 1, 4),
        (2000, 3, 2),
        (1024, 1, 1),
        (250, 1073741823, 4294967292),
        (250, 1073741824, 0),
        (250, 0, 0),
    ],
)
def test_jiffies_to_msecs_rounds_up_and_keeps_32_bits(hz: int, jiffies: int, msecs: int) -> None:
    assert jiffies_to_msecs(jiffies, hz) == msecs


@pytest.mark.parametrize(
    ("hz", "left", "shown"),
    [
        (250, 225000, 900),
        (250, 224999, 899),
        (250, 250, 1),
        (250, 249, 0),
        (250, 0, 0),
        (250, -5000, 0),
        (300, 299, 0),
        (300, 300, 1),
        (250, 1073741823 + 251, 1),
    ],
)
def test_expires_column(hz: int, left: int, shown: int) -> None:
    assert expires_seconds(4294892296 + left, 4294892296, hz) == shown


def test_conversions_of_timeouts() -> None:
    assert seconds_to_jiffies(900, 250) == 225000
    assert seconds_to_jiffies(0.1, 300) == 30
    assert jiffies_to_seconds(225249, 250) == 900
    assert max_timeout_seconds(250) == 8589934
    assert persistence_to_jiffies(17179870, 250) == 204
    assert persistence_to_jiffies(360, 250) == 90000
    assert jiffies_to_sync_seconds(225249, 250) == 900
    assert jiffies_to_sync_seconds(2**32 * 250 + 250, 250) == 1
    assert sync_seconds_to_jiffies(900, 250) == 225000
    assert sync_seconds_to_jiffies(2**63, 250) == (2**63 - 1) // 250 * 250
    assert sync_seconds_to_jiffies(0, 250) == 0


# --- 3: levels -------------------------------------------------------------------------------------------------------------------------------------

#         level  offset  granularity  first delta  last delta
LEVELS = (
    (0, 0, 1, 0, 62),
    (1, 64, 8, 63, 503),
    (2, 128, 64, 504, 4031),
    (3, 192, 512, 4032, 32255),
    (4, 256, 4096, 32256, 258047),
    (5, 320, 32768, 258048, 2064383),
    (6, 384, 262144, 2064384, 16515071),
    (7, 448, 2097152, 16515072, 132120575),
    (8, 512, 16777216, 132120576, 1056964607),
)


@pytest.mark.parametrize(("level", "offset", "granularity", "first", "last"), LEVELS)
@pytest.mark.parametrize("hz", HZS)
def test_levels(hz: int, level: int, offset: int, granularity: int, first: int, last: int) -> None:
    if level == 8 and hz <= 100:
        assert lvl_depth(hz) == 8
        return
    assert (lvl_start(level), lvl_start(level + 1) - 1, lvl_gran(level)) == (first, last, granularity)
    clock = Clock(hz)
    for delta in (first, last):
        bucket = clock.bucket_for(clock.now + delta)
        assert bucket.level == level
        assert offset <= bucket.index < offset + 64
        assert bucket.tick % granularity == 0


#   in ms: granularity, last delta; at HZ 100, 250, 300, 1000
MILLISECONDS = (
    ((10, 620), (4, 248), (3.333, 206.667), (1, 62)),
    ((80, 5030), (32, 2012), (26.667, 1676.667), (8, 503)),
    ((640, 40310), (256, 16124), (213.333, 13436.667), (64, 4031)),
    ((5120, 322550), (2048, 129020), (1706.667, 107516.667), (512, 32255)),
    ((40960, 2580470), (16384, 1032188), (13653.333, 860156.667), (4096, 258047)),
    ((327680, 20643830), (131072, 8257532), (109226.667, 6881276.667), (32768, 2064383)),
    ((2621440, 165150710), (1048576, 66060284), (873813.333, 55050236.667), (262144, 16515071)),
    ((20971520, 1321205750), (8388608, 528482300), (6990506.667, 440401916.667), (2097152, 132120575)),
    (None, (67108864, 4227858428), (55924053.333, 3523215356.667), (16777216, 1056964607)),
)


@pytest.mark.parametrize(("level", "hz", "row"), [(n, hz, row) for n, rows in enumerate(MILLISECONDS) for hz, row in zip(HZS, rows, strict=True) if row])
def test_levels_in_milliseconds(level: int, hz: int, row: tuple[float, float]) -> None:
    assert (round(lvl_gran(level) * 1000 / hz, 3), round((lvl_start(level + 1) - 1) * 1000 / hz, 3)) == row


@pytest.mark.parametrize(
    ("hz", "cutoff", "maximum"),
    [(100, 132120576, 130023424), (250, 1056964608, 1040187392), (300, 1056964608, 1040187392), (1000, 1056964608, 1040187392)],
)
def test_capacity(hz: int, cutoff: int, maximum: int) -> None:
    clock = Clock(hz, start_jiffies=0)
    last = lvl_depth(hz) - 1
    assert clock.bucket_for(cutoff - 1).tick == cutoff
    assert clock.bucket_for(cutoff).tick == clock.bucket_for(2**40).tick == maximum + lvl_gran(last)


#  timeout, then level, largest and actual lateness in seconds at HZ 100, 250, 300, 1000 when armed at boot
LATENESS = (
    (2, (1, 0.080, 0.080), (1, 0.032, 0.016), (2, 0.213, 0.187), (2, 0.064, 0.016)),
    (3, (1, 0.080, 0.040), (2, 0.256, 0.040), (2, 0.213, 0.040), (2, 0.064, 0.040)),
    (10, (2, 0.640, 0.080), (2, 0.256, 0.208), (2, 0.213, 0.080), (3, 0.512, 0.208)),
    (30, (2, 0.640, 0.560), (3, 2.048, 1.712), (3, 1.707, 0.347), (3, 0.512, 0.176)),
    (60, (3, 5.120, 4.480), (3, 2.048, 0.384), (3, 1.707, 1.067), (4, 4.096, 2.432)),
    (120, (3, 5.120, 0.800), (3, 2.048, 1.824), (4, 13.653, 2.507), (4, 4.096, 3.872)),
    (300, (3, 5.120, 5.120), (4, 16.384, 16.384), (4, 13.653, 13.653), (5, 32.768, 32.768)),
    (360, (4, 40.960, 21.920), (4, 16.384, 5.536), (4, 13.653, 8.267), (5, 32.768, 5.536)),
    (900, (4, 40.960, 14.400), (4, 16.384, 6.208), (5, 109.227, 55.360), (5, 32.768, 22.592)),
)


@pytest.mark.parametrize(("timeout", "hz", "row"), [(row[0], hz, cell) for row in LATENESS for hz, cell in zip(HZS, row[1:], strict=True)])
def test_timeouts_of_ipvs_at_boot(timeout: int, hz: int, row: tuple[int, float, float]) -> None:
    level, largest, actual = row
    recorder = Recorder(hz)
    expires = recorder.clock.now + timeout * hz
    assert recorder.clock.bucket_for(expires).level == level
    assert round(lvl_gran(level) / hz, 3) == largest
    recorder.arm("x", expires)
    recorder.clock.advance(seconds=2 * timeout)
    [(fired, _)] = recorder.log
    assert round((fired - expires) / hz, 3) == actual


# --- 4: from expiry to bucket ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", HZS)
@pytest.mark.parametrize(
    ("delta", "level", "index", "tick"),
    [
        (0, 0, 1, 1000001),
        (1, 0, 2, 1000002),
        (62, 0, 63, 1000063),
        (63, 1, 80, 1000064),
        (64, 1, 81, 1000072),
        (71, 1, 81, 1000072),
        (500, 1, 71, 1000504),
        (503, 1, 71, 1000504),
        (504, 2, 145, 1000512),
        (511, 2, 145, 1000512),
        (512, 2, 146, 1000576),
        (-1, 0, 0, 1000000),
        (-10, 0, 0, 1000000),
    ],
)
def test_bucket(hz: int, delta: int, level: int, index: int, tick: int) -> None:
    bucket = Clock(hz, start_jiffies=1000000).bucket_for(1000000 + delta)
    assert (bucket.level, bucket.index, bucket.tick) == (level, index, tick)


def test_timer_for_now_fires_at_the_next_tick() -> None:
    r = Recorder(start=1000)
    r.arm("a", 1000, lambda: r.arm("b", 1001))
    assert r.clock.advance(0) == 0
    assert r.clock.next_deadline() == 1001
    assert r.clock.advance(1) == 1
    assert r.clock.advance(0) == 0
    r.clock.advance(1)
    assert r.log == [(1001, "a"), (1002, "b")]


def test_timer_for_the_past_fires_at_the_next_tick_before_those_of_that_tick() -> None:
    r = Recorder(start=1000)
    r.arm("p", 900)
    r.arm("z", 1000)
    r.arm("q", 999)
    assert r.clock.advance(0) == 0
    r.clock.advance(1)
    assert r.log == [(1001, "q"), (1001, "p"), (1001, "z")]


def test_timer_for_the_past_armed_after_a_timer_of_this_tick_joins_those_of_the_next() -> None:
    r = Recorder(start=1000)
    r.arm("x", 1000)
    r.clock.advance(1)
    r.arm("p", 900)
    r.arm("z", 1001)
    r.arm("q", 900)
    r.clock.advance(1)
    assert r.log == [(1001, "x"), (1002, "q"), (1002, "z"), (1002, "p")]


def test_callback_that_is_late_may_arm_for_the_tick_that_follows_in_the_same_jiffy() -> None:
    r = Recorder(start=1000)
    r.arm("p", 900, lambda: r.arm("q", 1000))
    r.arm("z", 1000)
    r.clock.advance(1)
    assert r.log == [(1001, "p"), (1001, "q"), (1001, "z")]


@pytest.mark.parametrize(
    ("timeout", "expires", "index", "after"),
    [(4227858, 5351856796, 575, 1057039608), (4227859, 5351857046, 574, 1040262392), (8589934, 6442375796, 574, 1040262392)],
)
def test_timer_beyond_the_capacity_fires_early(timeout: int, expires: int, index: int, after: int) -> None:
    r = Recorder()
    assert r.clock.now + timeout * 250 == expires
    r.arm("x", expires)
    bucket = r.timers["x"].bucket
    assert bucket is not None
    assert bucket.index == index
    r.clock.advance_to(2**34)
    assert r.log == [(4294892296 + after, "x")]
    assert r.timers["x"].expires == expires


def test_expiry_half_the_counter_away_counts_as_past() -> None:
    r = Recorder(start=1000)
    r.arm("x", 1000 + 2**63)
    assert r.clock.next_deadline() == 1001


# --- 7, 9: clock of the wheel, periods -------------------------------------------------------------------------------------------------------------


def test_idle_time_does_not_make_buckets_coarser() -> None:
    clock = Clock()
    clock.advance_to(4294894796)
    assert clock.bucket_for(4294895296).tick == 4294895304


def test_clock_of_the_wheel_is_one_ahead_while_timers_run_and_for_the_rest_of_the_jiffy() -> None:
    r = Recorder(start=1000)
    levels = [r.clock.bucket_for(1000 + 63).level]
    r.arm("x", 1000, lambda: levels.append(r.clock.bucket_for(1001 + 63).level))
    r.clock.advance(1)
    levels.append(r.clock.bucket_for(1001 + 63).level)
    r.clock.advance(1)
    levels.append(r.clock.bucket_for(1002 + 63).level)
    assert levels == [1, 0, 0, 1]


def test_work_with_a_delay_of_one_runs_two_ticks_later() -> None:
    clock = Clock(start_jiffies=1000)
    ran: list[int] = []
    DelayedWork(clock, lambda: ran.append(clock.now)).queue(1)
    assert clock.next_deadline() == 1002
    clock.advance(10)
    assert ran == [1002]


@pytest.mark.parametrize(("hz", "period", "firsts"), [(100, 104, ()), (250, 256, ()), (300, 304, ()), (1000, 1024, (1024, 1056))])
def test_period_of_the_defense_work(hz: int, period: int, firsts: tuple[int, ...]) -> None:
    for offset in range(64):
        clock = Clock(hz, initial_jiffies(hz) + offset)
        ran: list[int] = []
        work = periodic(clock, hz, ran)
        work.queue(hz)
        assert clock.advance(seconds=20) == 0
        gaps = [later - earlier for earlier, later in itertools.pairwise(ran)]
        assert set(gaps[1:]) == {period}
        assert gaps[0] in (firsts or (period,))


@pytest.mark.parametrize("hz", HZS)
def test_sixty_seconds_armed_in_a_callback_or_outside_are_the_same_bucket(hz: int) -> None:
    r = Recorder(hz)
    ticks = []
    r.arm("x", r.clock.now, lambda: ticks.append(r.clock.bucket_for(r.clock.now + 60 * hz).tick))
    r.clock.advance(1)
    ticks.append(Clock(hz, r.clock.now).bucket_for(r.clock.now + 60 * hz).tick)
    assert ticks[0] == ticks[1]


# --- 10: worked examples ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "now", "expires", "level", "index", "tick", "lateness", "removed"),
    [
        (900, 4294892296, 4295117296, 4, 293, 4295118848, 1552, 906.208),
        (900, 4294917296, 4295142296, 4, 299, 4295143424, 1128, 904.512),
        (900, 4294967296, 4295192296, 4, 311, 4295192576, 280, 901.120),
        (900, 4295000001, 4295225001, 4, 319, 4295225344, 343, 901.372),
        (900, 4296000511, 4296225511, 4, 308, 4296228864, 3353, 913.412),
        (360, 4294892296, 4294982296, 4, 260, 4294983680, 1384, 365.536),
        (300, 4294892296, 4294967296, 4, 257, 4294971392, 4096, 316.384),
        (300, 4294917296, 4294992296, 4, 263, 4294995968, 3672, 314.688),
        (300, 4295000000, 4295075000, 4, 283, 4295077888, 2888, 311.552),
        (120, 4294892296, 4294922296, 3, 233, 4294922752, 456, 121.824),
        (120, 4294917296, 4294947296, 3, 217, 4294947328, 32, 120.128),
        (120, 4295000001, 4295030001, 3, 251, 4295030272, 271, 121.084),
        (60, 4294892296, 4294907296, 3, 203, 4294907392, 96, 60.384),
        (60, 4294967296, 4294982296, 3, 222, 4294982656, 360, 61.440),
        (60, 4295000000, 4295015000, 3, 222, 4295015424, 424, 61.696),
        (30, 4294917296, 4294924796, 3, 237, 4294924800, 4, 30.016),
        (10, 4294892296, 4294894796, 2, 148, 4294894848, 52, 10.208),
        (10, 4294917296, 4294919796, 2, 154, 4294919808, 12, 10.048),
        (10, 4295000001, 4295002501, 2, 167, 4295002560, 59, 10.236),
        (3, 4294892296, 4294893046, 2, 184, 4294893056, 10, 3.040),
        (2, 4294892296, 4294892796, 1, 96, 4294892800, 4, 2.016),
        (2, 4295000001, 4295000501, 1, 119, 4295000504, 3, 2.012),
        (2, 4296000511, 4296001011, 1, 127, 4296001016, 5, 2.020),
        (0, 4295000000, 4295000000, 0, 1, 4295000001, 1, 0.004),
    ],
)
def test_worked_example(timeout: int, now: int, expires: int, level: int, index: int, tick: int, lateness: int, removed: float) -> None:
    r = Recorder(start=now)
    assert now + timeout * 250 == expires
    r.arm("x", expires)
    bucket = r.timers["x"].bucket
    assert bucket is not None
    assert (bucket.level, bucket.index, bucket.tick) == (level, index, tick)
    r.clock.advance(seconds=1000)
    assert r.log == [(tick, "x")]
    assert tick - expires == lateness
    assert round((tick - now) / 250, 3) == removed


def test_life_of_a_connection() -> None:
    r = Recorder()
    r.arm("conn", r.clock.now + 60 * 250)
    assert r.clock.next_deadline() == 4294907392
    r.clock.advance(seconds=1)
    r.arm("conn", r.clock.now + 900 * 250)
    assert r.timers["conn"].expires == 4295117546
    shown = [expires_seconds(4295117546, now, 250) for now in (r.clock.now, r.clock.now + 1, 4295117296, 4295117297, 4295118847)]
    assert shown == [900, 899, 1, 0, 0]
    r.clock.advance(seconds=1000)
    assert r.log == [(4295118848, "conn")]
