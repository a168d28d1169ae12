"""Counters and rates: the worked examples of the estimator, number for number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.stats import Stats

BURST = [
    # avg: cps inpps outpps inbps outbps, then as shown
    ((1280, 12800, 10240, 256000, 2048000), (1, 12, 10, 8000, 64000)),
    ((960, 9600, 7680, 192000, 1536000), (1, 9, 7, 6000, 48000)),
    ((720, 7200, 5760, 144000, 1152000), (1, 7, 6, 4500, 36000)),
    ((540, 5400, 4320, 108000, 864000), (1, 5, 4, 3375, 27000)),
    ((405, 4050, 3240, 81000, 648000), (0, 4, 3, 2531, 20250)),
    ((303, 3037, 2430, 60750, 486000), (0, 3, 2, 1898, 15187)),
    ((227, 2277, 1822, 45562, 364500), (0, 2, 2, 1424, 11391)),
    ((170, 1707, 1366, 34171, 273375), (0, 2, 1, 1068, 8543)),
]
STEADY = {
    1: (25600, 25, 250, 187, 16000, 187500),
    2: (44800, 44, 437, 328, 28000, 328125),
    3: (59200, 58, 578, 434, 37000, 433594),
    4: (70000, 68, 684, 513, 43750, 512695),
    5: (78100, 76, 763, 572, 48812, 572021),
    8: (92148, 90, 900, 675, 57593, 674915),
    12: (99155, 97, 968, 726, 61973, 726243),
    28: (102366, 100, 1000, 750, 63980, 749762),
}


def rates(stats):
    shown = stats.shown()
    return shown.cps, shown.inpps, shown.outpps, shown.inbps, shown.outbps


def move(stats, conns, inpkts, outpkts, inbytes, outbytes):
    stats.conns += conns
    stats.inpkts += inpkts
    stats.outpkts += outpkts
    stats.inbytes += inbytes
    stats.outbytes += outbytes


def test_a_burst_decays_as_in_the_worked_example():
    stats = Stats()
    move(stats, 10, 100, 80, 64000, 512000)
    for avg, shown in BURST:
        stats.estimate()
        assert stats.avg == avg
        assert rates(stats) == shown


def test_a_steady_load_converges_as_in_the_worked_example():
    stats = Stats()
    for estimation in range(1, 29):
        move(stats, 200, 2000, 1500, 128000, 1500000)
        stats.estimate()
        if estimation in STEADY:
            assert (stats.avg[0], *rates(stats)) == STEADY[estimation]


def test_an_idle_object_decays_to_exactly_zero():
    stats = Stats()
    move(stats, 10, 100, 80, 64000, 512000)
    for _ in range(80):
        stats.estimate()
    assert stats.avg == (0, 0, 0, 0, 0)
    assert stats.shown().conns == 10


@given(st.lists(st.one_of(st.just(0), st.integers(0, 500)), max_size=30), st.integers(0, 200))
def test_averages_are_the_same_whether_somebody_looks_in_between_or_not(loads, idle):
    watched, alone = Stats(), Stats()
    for load in loads + [0] * idle:
        for stats in (watched, alone):
            move(stats, load, 10 * load, 9 * load, 600 * load, 5000 * load)
            stats.estimate()
        assert watched.shown().conns == watched.conns
    assert (watched.avg, watched.kstats, watched.last) == (alone.avg, alone.kstats, alone.last)
    assert alone.idle == 0


@pytest.mark.parametrize(("per_interval", "shown"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_small_constant_rates_round_half_down(per_interval, shown):
    stats = Stats()
    for _ in range(60):
        move(stats, per_interval, 0, 0, per_interval, 0)
        stats.estimate()
    assert stats.shown().cps == shown
    assert stats.shown().inbps == shown


def test_zeroing_takes_the_sampled_values_not_the_live_ones():
    stats = Stats()
    stats.inpkts = 100
    stats.estimate()
    stats.inpkts = 150
    stats.zero()
    assert stats.shown().inpkts == 0
    stats.estimate()
    assert stats.shown().inpkts == 50


def test_the_first_rate_after_a_stop_takes_the_whole_difference_as_two_seconds():
    stats = Stats()
    stats.avg = (102397, 0, 0, 0, 0)
    stats.conns += 6000
    stats.estimate()
    assert stats.avg[0] == 844797
    shown = [stats.shown().cps]
    for _ in range(6):
        stats.conns += 200
        stats.estimate()
        shown.append(stats.shown().cps)
    assert shown == [825, 644, 508, 406, 329, 272, 229]


def sample_times(ipvs, stats, seconds):
    """Jiffies after the present one at which a moving counter is sampled."""
    start = ipvs.clock.now
    times = []
    for _ in range(seconds * ipvs.env.hz):
        stats.gone = (stats.gone[0] + 1, 0, 0, 0, 0)
        before = stats.kstats[0]
        ipvs.clock.advance(1)
        if stats.kstats[0] != before:
            times.append(ipvs.clock.now - start)
    return times


def test_objects_are_sampled_491_jiffies_after_the_first_service_and_then_every_500():
    ipvs = IPVS(Environment(start_jiffies=4026261))
    svc = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    assert sample_times(ipvs, svc.stats, 8) == [491, 991, 1491, 1991]


def test_an_object_added_while_its_row_is_waited_for_misses_that_round():
    ipvs = IPVS()
    ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    ipvs.clock.advance(983)  # E_1 - TICK is jiffy 980
    late = ipvs.add_service("tcp", "192.0.2.2:80", scheduler="rr")
    assert sample_times(ipvs, late.stats, 4) == [1491 - 983]


@pytest.mark.parametrize(("hz", "first", "period"), [(100, 197, 200), (250, 491, 500), (300, 589, 600), (1000, 1961, 2000)])
def test_sampling_at_other_tick_rates(hz, first, period):
    ipvs = IPVS(Environment(hz=hz))
    svc = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    assert sample_times(ipvs, svc.stats, 5) == [first, first + period]


def test_without_estimation_what_is_shown_stays():
    ipvs = IPVS()
    ipvs.sysctl_write("run_estimation", 0)
    svc = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    svc.stats.gone = (5, 0, 0, 0, 0)
    ipvs.clock.advance(seconds=10)
    assert svc.stats.shown().conns == 0
    ipvs.sysctl_write("run_estimation", 1)
    ipvs.clock.advance(seconds=3)
    assert svc.stats.shown().conns == 5


def test_what_members_counted_stays_when_they_go_and_is_not_counted_twice_when_they_come_back():
    ipvs = IPVS()
    web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    dest = ipvs.add_dest(web, "10.1.0.11:80")
    seen = []

    def look():
        total = ipvs.ns.tot_stats
        seen.append((web.stats.conns, web.stats.inpkts, web.stats.inbytes, total.conns, total.inpkts, total.live()[3], dest.stats.inpkts))

    for flags in "SAA":
        ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", flags))
    look()
    ipvs.delete_dest(web, dest)
    look()
    assert ipvs.add_dest(web, "10.1.0.11:80") is dest
    ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "A"))
    look()
    ipvs.delete_service(web)
    look()
    assert seen == [(1, 3, 120, 1, 3, 120, 3), (1, 3, 120, 1, 3, 120, 3), (1, 4, 160, 1, 4, 160, 4), (1, 4, 160, 1, 4, 160, 4)]
    other = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    ipvs.add_dest(other, "10.1.0.11:80")
    assert (other.stats.conns, ipvs.ns.tot_stats.conns, other.stats.inpkts, ipvs.ns.tot_stats.inpkts) == (0, 1, 0, 4)


def as_the_kernel_computes(value, last, old, shift):
    rate = (value - last << shift) % 2**64
    difference = (rate - old) % 2**64
    if difference >= 2**63:
        difference -= 2**64
    return (old + (difference >> 2)) % 2**64


@given(*[st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 10**6), min_size=5, max_size=5)] * 3)
def test_averages_are_computed_modulo_2_to_the_64th(values, last, avg):
    stats = Stats()
    stats.conns, stats.inpkts, stats.outpkts, stats.inbytes, stats.outbytes = values
    stats.last, stats.avg = tuple(last), tuple(avg)
    stats.estimate()
    assert stats.avg == tuple(map(as_the_kernel_computes, values, last, avg, (9, 9, 9, 4, 4)))
    assert stats.kstats == stats.last == tuple(values)
