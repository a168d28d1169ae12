"""Corners of the schedulers: bits that mean nothing, numbers at the ends of their ranges, tables at their sizes."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.schedulers.bench import SYN, Bench, Queue, name_of, pool, state

from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DEST_CF_AVAILABLE, IP_VS_DEST_F_OVERLOAD, IP_VS_HDR_ICMP
from ipvs_model.packet.view import IpHdr
from ipvs_model.schedulers import SCHEDULERS, RateLimit, Registry, Scheduler, bind_scheduler, cache, error_text, mh, wlc
from ipvs_model.schedulers.hashing import dest_key, fold, hash_32, hsiphash_u32
from ipvs_model.schedulers.lblcr import Entry
from ipvs_model.schedulers.weights import FEW, least_loaded
from ipvs_model.timers import Clock

NAMES = [kind.name for kind in SCHEDULERS]
FOREIGN = 0x100  #: a bit that no scheduler knows
TOP = 0x7FFFFFFF  #: the largest weight
FALLBACK, PORT = 0x08, 0x10
both = pytest.mark.parametrize("scheduler", ["lblc", "lblcr"])


def last(choices: list[str]) -> str:
    """The last number of each address."""
    return " ".join(name.split(":")[0].rsplit(".", 1)[-1] for name in choices)


def foreign(bench: Bench) -> Bench:
    """Set a bit on each destination that means nothing."""
    for dest in bench.known.values():
        dest.flags |= FOREIGN
    return bench


# --- bits that mean nothing -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_flag_of_a_destination_does_not_matter(name: str) -> None:
    plain, marked = pool(name, 3, 1, 4), foreign(pool(name, 3, 1, 4))
    for bench in (plain, marked):
        queue = Queue()
        queue.values.extend([0, 4, 5, 6, 7, 8, 1, 2, 3, 0] * 3)
        bench.ns.rng = queue  # type: ignore[assignment]
        bench.conns("10.0.0.2:80", 1, 1)
    for _ in range(10):  # as many as ovf has room for
        one, other = plain.ask(), marked.ask()
        assert name_of(one) == name_of(other) is not None
        for dest in (one, other):
            assert dest is not None
            dest.activeconns += 1
            dest.totalconns += 1
    for dest in plain.known.values():
        twin = marked.known[name_of(dest) or ""]
        assert plain.svc.scheduler.score(plain.svc, dest) == marked.svc.scheduler.score(marked.svc, twin)


def test_a_foreign_flag_does_not_take_a_member_out_of_a_set() -> None:
    bench = pool("lblcr", 2, 2)
    bench.choices(1)
    foreign(bench)
    bench.conns("10.0.0.2:80", 1, 1)
    assert last(bench.choices(1)) == "2"  # not the idle one: it is a member, and not over its weight


@both
def test_a_deleted_destination_is_not_available_whatever_else_is_set(scheduler: str) -> None:
    bench = pool(scheduler, 1, 1)
    assert last(bench.choices(1)) == "2"
    bench.delete("10.0.0.2:80")
    bench.known["10.0.0.2:80"].cflags |= FOREIGN
    assert last(bench.choices(1)) == "1"


@pytest.mark.parametrize("cflags", [0, FOREIGN])
def test_dh_wants_an_available_destination(cflags: int) -> None:
    bench = pool("dh", 1)
    bench.known["10.0.0.1:80"].cflags = cflags
    assert bench.ask() is None
    bench.known["10.0.0.1:80"].cflags = cflags | IP_VS_DEST_CF_AVAILABLE
    assert bench.ask() is bench.known["10.0.0.1:80"]


@pytest.mark.parametrize("name", ["sh", "mh"])
def test_a_foreign_flag_of_the_service_means_neither_port_nor_fallback(name: str) -> None:
    bench = pool(name, 1, 1, 1, flags=FOREIGN)
    assert len({bench.ask(bench.header(sport=port)) for port in range(1, 40)}) == 1
    chosen = bench.ask()
    bench.edit(name_of(chosen) or "", 0)  # keeps its slots, and one bucket of each round
    asked = [bench.ask(bench.header(saddr=0x0A080000 + client)) for client in range(40)]
    assert None in asked
    bench.svc.flags |= FALLBACK
    assert None not in [bench.ask(bench.header(saddr=0x0A080000 + client)) for client in range(40)]


@pytest.mark.parametrize("name", ["sh", "mh"])
@pytest.mark.parametrize("flags", [IP_VS_HDR_ICMP, 0x4, FOREIGN])
def test_only_the_inverse_flag_turns_a_header_round(name: str, flags: int) -> None:
    bench = pool(name, *[1] * 8)
    for client in range(0x0A080000, 0x0A080010):
        iph = bench.header(saddr=client, daddr=client ^ 0xFFFF)
        marked = IpHdr(AF_INET, 0, 20, 6, 0, 0, iph.saddr, iph.daddr, flags, iph.sport, iph.dport)
        assert bench.ask(marked) is bench.ask(iph)


# --- numbers at the ends of their ranges ------------------------------------------------------------------------------
def test_weights_below_0() -> None:
    """Nobody can set one; the table of the chapter says who tests for "> 0" and who for "not 0"."""
    for name in NAMES:
        bench = pool(name, 1)
        if name in ("lblc", "lblcr"):
            assert bench.ask() is not None  # it is remembered
        dest = bench.known["10.0.0.1:80"]
        dest.weight = -1
        bench.conns("10.0.0.1:80", -1, -1)  # active connections: no more than the weight
        taken = name in ("lc", "nq", "ovf")
        if name != "wrr":  # which goes by a threshold
            assert (bench.ask() is dest) is taken, name
            assert (bench.svc.scheduler.score(bench.svc, dest) is not None) is taken, name


def test_twos_sums_weights_above_0_only() -> None:
    bench = pool("twos", 2, 3)
    bench.known["10.0.0.2:80"].weight = -1
    queue = Queue()
    queue.values.extend((0, 2))
    bench.ns.rng = queue  # type: ignore[assignment]
    assert last(bench.choices(1)) == "1"
    assert queue.ceilings == [3, 3]


def test_lblcr_passes_over_members_without_weight() -> None:
    bench = pool("lblcr", 1, 1)
    entry = Entry(1, bench.known["10.0.0.1:80"], 0)
    entry.add(bench.known["10.0.0.2:80"], 0)
    for weight in (0, -1):
        bench.known["10.0.0.2:80"].weight = weight
        assert entry.least() is entry.most() is bench.known["10.0.0.1:80"]


def test_lblcr_best_and_worst_member_of_any_two() -> None:
    bench = pool("lblcr", 1, 1)
    one, other = bench.known.values()
    entry = Entry(1, other, 0)
    entry.add(one, 0)  # comes first
    for (load, weight), (load2, weight2) in product(product((0, 1, 2, 3, 7), (0, 1, 2, 3)), repeat=2):
        one.overhead, one.weight, other.overhead, other.weight = load, weight, load2, weight2
        ratios = [(dest, Fraction(dest.overhead, dest.weight)) for dest in (one, other) if dest.weight]
        if not ratios:
            assert entry.least() is entry.most() is None
            continue
        assert entry.most() is max(ratios, key=lambda pair: pair[1])[0]
        if one.weight:  # a later member of weight 0 never wins a product
            assert entry.least() is min(ratios, key=lambda pair: pair[1])[0]


@pytest.mark.parametrize("name", ["lc", "wlc"])
def test_overhead_of_2_to_the_31(name: str) -> None:
    """It is the smallest of all signed numbers, and a large unsigned one."""
    bench = pool(name, 1, 1)
    bench.conns("10.0.0.1:80", 1 << 23, 0)
    bench.conns("10.0.0.2:80", 3, 3)
    assert last(bench.choices(1)) == ("2" if name == "lc" else "1")
    bench.overload("10.0.0.2:80")
    assert last(bench.choices(1)) == "1"
    assert bench.svc.scheduler.score(bench.svc, bench.known["10.0.0.1:80"]) == (1 << 31 if name == "lc" else -(1 << 31))


def test_lc_looks_at_every_bit() -> None:
    bench = pool("lc", 1, 1)
    bench.conns("10.0.0.1:80", 0, 2)
    bench.conns("10.0.0.2:80", 0, 3)
    assert last(bench.choices(1)) == "1"
    bench.conns("10.0.0.1:80", 0, 1 << 30)
    bench.conns("10.0.0.2:80", 0, (1 << 30) + 1)
    assert last(bench.choices(1)) == "1"
    bench.conns("10.0.0.1:80", 1 << 24, 2)  # 2**32 + 2 is 2
    assert last(bench.choices(1)) == "1"
    assert bench.svc.scheduler.score(bench.svc, bench.known["10.0.0.1:80"]) == 2
    bench.conns("10.0.0.1:80", (1 << 24) - 1, 255)  # 2**32 - 1, the most there is
    assert last(bench.choices(1)) == "2"


@pytest.mark.parametrize("name", ["sed", "nq"])
def test_a_delay_that_wraps_is_the_shortest(name: str) -> None:
    for wrapped in ("10.0.0.1:80", "10.0.0.2:80"):
        bench = pool(name, 1, 1)
        bench.conns("10.0.0.1:80", 5, 5)
        bench.conns("10.0.0.2:80", 5, 5)
        bench.conns(wrapped, TOP, TOP)
        assert bench.choices(1) == [wrapped]
        assert bench.svc.scheduler.score(bench.svc, bench.known[wrapped]) == -(1 << 31)


def test_scores_of_sed_and_nq_count_the_new_connection() -> None:
    for name, scores in (("sed", [1, 2, 3]), ("nq", [0, 2, 3])):
        bench = pool(name, 1)
        dest = bench.known["10.0.0.1:80"]
        for active, score in enumerate(scores):
            bench.conns("10.0.0.1:80", active, active)
            assert bench.svc.scheduler.score(bench.svc, dest) == score


def test_nq_idle_means_exactly_no_active_connection() -> None:
    bench = pool("nq", 1, 1)
    bench.conns("10.0.0.2:80", -1, 0)  # the first, but not idle
    assert last(bench.choices(1)) == "1"


def weighted_least(svc: Any) -> Dest | None:
    """Section 8.2, word by word."""
    best, least = None, 0
    for dest in svc.destinations:
        load = (dest.overhead + (1 << 31)) % (1 << 32) - (1 << 31)
        if dest.flags & IP_VS_DEST_F_OVERLOAD or (best is None and dest.weight <= 0):
            continue
        if best is None or least * dest.weight > load * best.weight:
            best, least = dest, load
    return best


def pools(seed: int, loads: tuple[int, ...]) -> Iterator[Bench]:
    """The same bench in many states."""
    random = Random(seed)
    bench = pool("wlc", *[1] * 4)
    for _ in range(1500):
        for dest in bench.svc.destinations:
            dest.overhead = random.choice(loads)
            dest.weight = random.choice((0, 0, 1, 2, 3, TOP))
            dest.flags = random.choice((0, 0, 0, FOREIGN, IP_VS_DEST_F_OVERLOAD, FOREIGN | IP_VS_DEST_F_OVERLOAD))
        yield bench


@pytest.mark.parametrize("loads", [(0, 1, 2, 3, 257, 514), (0, 1, 2, (1 << 30) - 1, 1 << 30), (-255, -1, 0, 1, 2)])
def test_least_loaded_of_any_pool(loads: tuple[int, ...]) -> None:
    for bench in pools(1, loads):
        assert least_loaded(bench.svc) is weighted_least(bench.svc)


@pytest.mark.parametrize("many", [False, True], ids=["marked", "many"])
def test_least_loaded_when_overheads_wrap(many: bool) -> None:
    """Either the mark says that they may, or there are connections enough for it."""
    for bench in pools(2, (-255, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 31) + 7, (1 << 32) - 1, 1 << 32)):
        bench.ns.overheads_wrap, bench.ns.conn_count = not many, (FEW + 1) * many
        assert least_loaded(bench.svc) is weighted_least(bench.svc)


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What may happen between two choices: kind, number of a destination, a number."""
    kinds = st.sampled_from(("choose",) * 9 + ("load", "close", "unbind", "expire", "overload", "weight", "delete", "add", "wrap"))
    return draw(st.lists(st.tuples(kinds, st.integers(0, 2), st.integers(0, 3)), min_size=10, max_size=80))


@given(happenings())
def test_wlc_remembers_nothing_that_is_wrong(events: list[tuple[str, int, int]]) -> None:
    """Equal weights: what the last search has found spares the next one, but for all that may have happened since."""
    bench = pool("wlc", 1, 1, 1)
    names = list(bench.known)
    for kind, number, value in events:
        dest = bench.known[names[number]]
        if kind == "load":
            dest.activeconns, dest.totalconns = dest.activeconns + value, dest.totalconns + value
        elif kind == "close":
            dest.activeconns -= 1
        elif kind == "unbind":
            dest.totalconns -= 1
        elif kind == "expire":  # as entries do
            dest.overhead -= 257 if value else 1
            dest.total -= 1
            bench.ns.ebb += 1
        elif kind == "overload":
            bench.overload(names[number], value > 0)
        elif kind == "weight":
            for name in names[: number + 1]:
                bench.edit(name, value)
        elif kind == "delete" and dest.available:
            bench.delete(names[number])
        elif kind == "add" and not dest.available:
            bench.add(names[number], 1)
        elif kind == "wrap":
            dest.activeconns += 1 << 23
        chosen = bench.ask()
        assert chosen is weighted_least(bench.svc)
        if chosen is not None and value:  # else the packet comes to nothing
            chosen.total += 1
            chosen.overhead += 257


def test_wlc_takes_one_further_in_front_that_has_come_down_to_the_least() -> None:
    bench = pool("wlc", 1, 1)
    bench.conns("10.0.0.2:80", 0, 1)
    assert last(bench.choices(2)) == "1 1"
    bench.conns("10.0.0.2:80", 0, 0)
    assert last(bench.choices(1)) == "2"
    bench.conns("10.0.0.1:80", 0, 1)
    bench.conns("10.0.0.1:80", 0, 0)
    assert last(bench.choices(1)) == "2"


def test_wlc_goes_on_where_the_last_search_ended() -> None:
    bench = pool("wlc", 1, 1, 1, 1)
    bench.conns("10.0.0.3:80", 1, 1)
    searches = 0

    def search(svc: Any) -> Dest | None:
        nonlocal searches
        searches += 1
        return least_loaded(svc)

    def choices(count: int, load: int = 257) -> str:
        names = []
        for _ in range(count):
            dest = bench.ask()
            assert dest is not None
            dest.overhead += load
            names.append(name_of(dest) or "")
        return last(names)

    with patch.object(wlc, "least_loaded", search):
        assert (choices(2, 0), searches) == ("4 4", 1)  # nothing came of the first
        assert (choices(3), searches) == ("4 2 1", 1)  # 3 has more than the least
        assert (choices(1), searches) == ("4", 2)  # all have the same now
        assert (choices(2, 0), searches) == ("3 3", 2)
        foreign(bench)
        bench.ns.conn_count = FEW
        assert (choices(2), searches) == ("3 2", 2)
        bench.ns.conn_count = FEW + 1
        assert (choices(1), searches) == ("1", 3)
        bench.ns.conn_count = 0
        assert (choices(1), searches) == ("4", 4)
        bench.ns.ebb += 1
        assert (choices(2), searches) == ("3 2", 5)
        bench.overload("10.0.0.1:80")
        assert (choices(2), searches) == ("4 3", 7)
        bench.overload("10.0.0.1:80", False)
        assert (choices(1), searches) == ("1", 7)


def test_wlc_asks_for_a_search_whenever_it_knows_nothing() -> None:
    bench = pool("wlc", 1, 1)
    with patch.object(wlc, "least_loaded", lambda svc: None):
        assert bench.ask() is None
    assert last(bench.choices(1)) == "2"
    bench.ns.ebb = bench.svc.ebb = 1 << 40
    assert last(bench.choices(1)) == "2"


def test_wlc_sees_an_overhead_wrap_below_the_least() -> None:
    bench = pool("wlc", 1, 1)
    assert last(bench.choices(2)) == "2 2"
    bench.conns("10.0.0.1:80", -(1 << 23) - 1, 0)  # 2**31 - 256
    assert last(bench.choices(1)) == "2"


def test_wlc_takes_a_new_one_of_the_same_weight() -> None:
    bench = pool("wlc", 1, 1)
    bench.conns("10.0.0.2:80", 0, 1)
    assert last(bench.choices(2)) == "1 1"
    dest = Dest(bench.svc, AF_INET, 0x0A000003, 80)
    dest.weight = 1
    bench.svc.link(dest)
    assert bench.ask() is dest


def test_few_connections_cannot_wrap_an_overhead() -> None:
    assert FEW * 257 < 1 << 31


# --- twos -------------------------------------------------------------------------------------------------------------
def drawn(weights: tuple[int, ...], loads: tuple[int, ...], *draws: int) -> str:
    """Which one twos takes after two draws; weights in list order."""
    bench = pool("twos", *reversed(weights))
    for dest, load in zip(bench.svc.destinations, loads, strict=True):
        dest.totalconns = load
    queue = Queue()
    queue.values.extend(draws)
    bench.ns.rng = queue  # type: ignore[assignment]
    chosen = bench.ask()
    assert chosen is not None
    assert queue.ceilings == [(sum(weights) + 1) % (1 << 32)] * 2
    return "ABCDE"[bench.svc.destinations.index(chosen)]


def test_twos_rests_wrap() -> None:
    # 2**31 + 5 is negative as an int; less A's weight it wraps to 6, which B takes; the product 1 * TOP does not wrap
    assert drawn((TOP, TOP), (1, 0), TOP, (1 << 31) + 5) == "B"
    assert drawn((TOP, TOP), (1, 0), (1 << 31) + 5, TOP) == "B"
    assert drawn((TOP, TOP), (0, 1), (1 << 31) + 5, TOP) == "A"
    # 2 * TOP wraps to -2
    assert drawn((TOP, TOP), (2, 0), TOP, (1 << 31) + 5) == "A"


def test_twos_sum_of_0_is_passed_on() -> None:
    assert drawn((TOP, TOP, 1), (1, 0, 0), 0, TOP + 1) == "B"


def test_twos_draw_that_matches_nothing() -> None:
    """Only a source that breaks its word: then the values at the start decide."""
    assert drawn((1, 1), (0, 0), 5, 0) == "B"  # 1 * 0 > -1 * 0 is false: the last usable one
    assert drawn((1, 1), (1, 0), 5, 0) == "A"  # 1 * 0 > -1 * 1
    assert drawn((1, 1), (0, 1), 1, 5) == "A"  # no second choice


# --- wrr and rr -------------------------------------------------------------------------------------------------------
def test_wrr_threshold_is_never_0_once_there_is_a_weight() -> None:
    bench = pool("wrr", 1)
    assert bench.svc.sched_data.cw == 1
    bench.add("10.0.0.2:80", 0)
    assert last(bench.choices(3)) == "1 1 1"


def test_wrr_threshold_is_fitted_to_the_new_step() -> None:
    bench = pool("wrr", 20, 40)
    bench.unbind()
    bench.bind("wrr")
    mark = bench.svc.sched_data
    assert (mark.di, mark.mw, mark.cw) == (20, 21, 21)
    bench.edit("10.0.0.1:80", 30)
    assert (mark.di, mark.mw, mark.cw) == (10, 31, 21)
    bench.edit("10.0.0.2:80", 36)
    assert (mark.di, mark.mw, mark.cw) == (6, 31, 19)  # 21 // 6 * 6 + 1


@pytest.mark.parametrize(("weights", "asked", "edit", "cw"), [((3, 6), 0, 4, 5), ((5, 6), 5, 3, 4)])
def test_wrr_threshold_for_small_steps(weights: tuple[int, int], asked: int, edit: int, cw: int) -> None:
    """4 // 2 * 2 + 1, and 4 // 3 * 3 + 1."""
    bench = pool("wrr", *weights)
    bench.unbind()
    bench.bind("wrr")
    bench.choices(asked)
    assert bench.svc.sched_data.cw == 4
    bench.edit("10.0.0.1:80", edit)
    assert bench.svc.sched_data.cw == cw


def test_wrr_stops_at_the_place_where_it_began() -> None:
    bench = Bench(None)
    for number in range(300):
        bench.add(f"10.0.{number >> 8}.{number & 255}:80")
    bench.bind("wrr")
    bench.choices(281)
    for name in bench.known:
        bench.overload(name)
    assert bench.ask() is None
    assert bench.svc.sched_data.cursor.dest is bench.svc.destinations[280]
    assert bench.svc.sched_data.cw == 1


@pytest.mark.parametrize(("weights", "choices"), [((2, 16), "1"), ((1, 3, 0), "1"), ((2, 4, 30), "2 2 1"), ((6, 14, 100), "2 2 2 2 2 1 2 1 2 1")])
def test_wrr_skips_thresholds_in_whole_steps(weights: tuple[int, ...], choices: str) -> None:
    """The heaviest is taken once, then it is overloaded."""
    bench = pool("wrr", *weights)
    bench.unbind()
    bench.bind("wrr")
    mark = bench.svc.sched_data
    (heaviest,) = bench.choices(1)
    bench.overload(heaviest)
    others = [weight for weight in weights if weight != max(weights)]
    thresholds = [cw for cw in range(mark.mw, 0, -mark.di) if cw <= max(others)]
    expected = " ".join(str(weights.index(weight) + 1) for cw in thresholds for weight in reversed(others) if weight >= cw)
    assert expected == choices
    taken = []
    for _ in 2 * choices.split():  # the second time it falls from the top
        taken += bench.choices(1)
        assert mark.cw % mark.di == 1 % mark.di
        assert 0 < mark.cw <= max(others)
    assert last(taken) == f"{choices} {choices}"


@pytest.mark.parametrize(("gone", "after"), [("4", "3 2 1"), ("43", "2 1"), ("432", "1 1"), ("2", "4 3 1"), ("1", "4 3 2"), ("14", "3 2 3")])
def test_rr_at_the_end_of_a_list_that_gets_shorter(gone: str, after: str) -> None:
    bench = pool("rr", 1, 1, 1, 1)
    assert last(bench.choices(4)) == "4 3 2 1"
    for number in gone:
        bench.delete(f"10.0.0.{number}:80")
    assert last(bench.choices(len(after.split()))) == after


# --- tables of dh, sh and mh ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_references_are_what_the_destinations_count(name: str) -> None:
    bench = pool(name, 1, 2, 3)
    for client in range(20):
        bench.ask(bench.header(saddr=0x0A080000 + client, daddr=0x0A080000 + client))
    references = Counter(bench.svc.scheduler.references(bench.svc))
    assert {dest.held - 1 for dest in bench.known.values() if dest not in references} <= {0}
    assert all(dest.held - 1 == count for dest, count in references.items())
    assert references.total() == {"dh": 256, "sh": 256, "mh": 4093, "lblc": 20, "lblcr": 20}.get(name, 0)
    bench.unbind()
    assert {dest.held for dest in bench.known.values()} == {1}
    if references:
        assert not Counter(bench.registry.get(name).references(bench.svc))


def test_destinations_without_a_bucket_score_0() -> None:
    bench = pool("sh", 1, 256)  # the first takes all
    assert [bench.svc.scheduler.score(bench.svc, dest) for dest in bench.svc.destinations] == [256, 0]
    bench = Bench(None)
    for number in range(257):
        bench.add(f"10.0.{number >> 8}.{number & 255}:80")
    bench.bind("dh")
    assert [bench.svc.scheduler.score(bench.svc, dest) for dest in bench.svc.destinations] == [1] * 256 + [0]


def slots(bench: Bench) -> set[int]:
    return {dest.addr & 255 for dest in bench.svc.sched_data.ready(bench.svc)}


def test_mh_with_more_destinations_than_slots() -> None:
    with patch.object(mh, "TAB_SIZE", 5):
        for asked in (False, True):  # whether the table is filled at each change
            bench = Bench("mh")
            data = bench.svc.sched_data
            for number in range(1, 9):
                bench.add(f"10.0.0.{number}:80", 1 if number > 6 else 2)
                if asked:
                    assert slots(bench) == set(range(1, min(number, 5) + 1))
                if number >= 6:
                    assert (data.gcd, data.rshift) == (2 if number == 6 else 1, 0)  # measured all the same
            assert slots(bench) == {1, 2, 3, 4, 5}
            assert [bench.svc.scheduler.score(bench.svc, dest) for dest in bench.known.values()] == [1, 1, 1, 1, 1, 0, 0, 0]
            bench.delete("10.0.0.1:80")
            assert slots(bench) == {1, 2, 3, 4, 5}  # still names the deleted one
            bench.delete("10.0.0.2:80")
            assert slots(bench) == {1, 2, 3, 4, 5}
            bench.delete("10.0.0.3:80")
            assert slots(bench) == {5, 6, 7, 8}  # in turn .8 and .7 take one, .6 two, .5 the last


@pytest.mark.parametrize(("many", "fits"), [(4, True), (5, True), (6, False), (7, False)])
def test_mh_is_bound_to_no_more_destinations_than_slots(many: int, fits: bool) -> None:
    with patch.object(mh, "TAB_SIZE", 5):
        bench = Bench(None)
        for number in range(1, many + 1):
            bench.add(f"10.0.0.{number}:80")
        if fits:
            bench.bind("mh")
            assert bench.ask() is not None
            assert slots(bench) == set(range(1, many + 1))
        else:
            with pytest.raises(IPVSError) as error:
                bench.bind("mh")
            assert error.value.errno == errno.EINVAL


def test_mh_real_table_size() -> None:
    bench = pool("mh", 1, 1)
    assert len(bench.svc.sched_data.ready(bench.svc)) == 4093
    bench.svc.destinations.extend(bench.svc.destinations * 2046 + bench.svc.destinations[:1])
    bench.unbind()
    assert bench.svc.num_dests == 4095
    with pytest.raises(IPVSError):
        bench.bind("mh")
    del bench.svc.destinations[4093:]
    bench.bind("mh")


def test_mh_shift_begins_with_the_seventh_bit() -> None:
    for weight, shift in ((63, 0), (64, 1), (127, 1), (128, 2)):
        bench = pool("mh", 1, weight)
        bench.ask()
        assert bench.svc.sched_data.rshift == shift


@pytest.mark.parametrize("port_flag", [0, PORT])
def test_mh_fallback_probes(port_flag: int) -> None:
    """Section 9.12, word by word; the key wraps, too."""
    bench = pool("mh", *[1] * 12, flags=FALLBACK | port_flag)
    for number in range(1, 10):
        bench.edit(f"10.0.0.{number}:80", 0)
    table = bench.svc.sched_data.ready(bench.svc)

    def naive(base: int) -> Dest:
        def slot(more: int) -> int:
            return hsiphash_u32((more + base) % (1 << 32), 2654435761) % 4093

        first = slot(0)
        tried = (table[slot((offset + first) % 4093)] for offset in range(4093))
        chosen: Dest = table[first] if table[first].weight else next(dest for dest in tried if dest.weight)
        return chosen

    for client in [*range(0xFFFFFFFF - 30, 1 << 32), *range(0x0A080000, 0x0A080020)]:
        assert bench.ask(bench.header(saddr=client, sport=7)) is naive((client + (7 if port_flag else 0)) % (1 << 32))


def test_mh_remembers_only_so_many_hashes() -> None:
    with patch.object(mh, "CACHED_HASHES", 300):
        data = mh.State()
        for value in range(700):
            assert data.hash1(value) == hsiphash_u32(value, 2654435761)
            data.permutation(value)
            assert len(data._hashes) == len(data._permutations) == value % 300 + 1


# --- tables of lblc and lblcr -----------------------------------------------------------------------------------------
def cached(scheduler: str, many: int) -> Bench:
    """So many addresses in the cache, each in a bucket of its own."""
    bench = pool(scheduler, 1)
    table = bench.svc.sched_data
    found: dict[int, int] = {}
    for address in range(0x0A080000, 0x0A080200):
        found.setdefault(table.bucket_of(address), address)
    for address in list(found.values())[:many]:
        bench.ask(bench.header(daddr=address))
    assert len(table.buckets) == table.entries == many
    return bench


@both
@pytest.mark.parametrize(("entries", "removed"), [(14, 1), (15, 2), (17, 5), (18, 6), (22, 6), (27, 6)])
def test_goal_of_the_partial_check(scheduler: str, entries: int, removed: int) -> None:
    """Room for 13: four thirds of what is above, rounded down, at most 13 // 2."""
    bench = cached(scheduler, entries)
    table = bench.svc.sched_data
    bench.advance(360 * 250)
    before = sorted(table.buckets)
    with patch.object(cache, "MAX_SIZE", 13):
        table.fire()
    assert table.entries == entries - removed
    assert sorted(table.buckets) == before[removed:]
    assert (table.rover, table.counter) == (before[removed - 1], 1)


@both
def test_partial_check_spares_what_was_used_in_the_last_six_minutes(scheduler: str) -> None:
    bench = cached(scheduler, 3)
    table = bench.svc.sched_data
    dest = bench.known["10.0.0.1:80"]
    with patch.object(cache, "MAX_SIZE", 2):
        bench.advance(360 * 250 - 1)
        table.fire()
        assert (table.entries, table.rover, table.counter, dest.held) == (3, 0, 1, 4)  # once round
        bench.advance(1)
        table.fire()
        assert (table.entries, dest.held) == (2, 3)
        table.fire()  # as many as there is room for: a quiet check
        assert (table.entries, table.counter) == (2, 2)


@both
def test_thirtieth_check_is_a_full_one(scheduler: str) -> None:
    bench = cached(scheduler, 3)
    table = bench.svc.sched_data
    dest = bench.known["10.0.0.1:80"]
    bench.ns.sysctl.write(f"{scheduler}_expiration", "0")
    for number in range(1, 30):
        assert (table.entries, table.counter, dest.held) == (3, number, 4)
        table.fire()
    table.fire()
    assert (table.entries, table.counter, dest.held) == (0, 1, 1)
    assert table.expires == bench.ns.clock.now + 60 * 250


@both
def test_real_sizes_of_the_cache(scheduler: str) -> None:
    bench = cached(scheduler, 1)
    table = bench.svc.sched_data
    for entries, full in ((24575, False), (24576, True)):
        table.entries = entries
        assert table.full is full
        bench.ask(bench.header(daddr=0xC0A80000 + entries))
        assert (table.find(0xC0A80000 + entries) is None) is full
    for entries, counter, rover in ((16384, 2, 0), (16385, 2, 0)):  # a partial check does not count; it went once round
        table.entries = entries
        table.fire()
        assert (table.counter, table.rover) == (counter, rover)
    assert table.bucket_of(0xC0A8010A) == 995
    bench.advance(360 * 250)
    table.entries = 16384 + 7000  # of the two that are there none stops it before its goal of 8192
    table.fire()
    assert table.entries == 16384 + 7000 - 2


@both
def test_no_entry_is_made_in_a_full_cache(scheduler: str) -> None:
    """With 300 for the limit, a number that is no small int."""
    bench = pool(scheduler, 1)
    with patch.object(cache, "FULL_SIZE", 300):
        for number in range(302):
            assert bench.ask(bench.header(daddr=0x0A080000 + number)) is not None
            assert bench.svc.sched_data.entries == min(number + 1, 300)
    bench.unbind()
    assert bench.svc.sched_data.entries == 0
    assert not list(bench.svc.sched_data)


def test_lblcr_gives_back_what_it_erases() -> None:
    bench = pool("lblcr", 2, 2)
    bench.choices(1)
    bench.conns("10.0.0.2:80", 3, 3)
    bench.choices(1)
    dests = list(bench.known.values())
    assert [dest.held for dest in dests] == [2, 2]
    bench.advance(bench.ns.sysctl.lblcr_expiration + 1)
    bench.choices(1)
    assert [dest.held for dest in dests] == [2, 1]
    assert state(bench.svc)["cache"][0]["set"] == ["10.0.0.1:80"]


# --- hashes, lines, names ---------------------------------------------------------------------------------------------
def test_hashes_of_all_bits() -> None:
    """Rows of the tables of the chapter."""
    assert (hash_32(0xFFFFFFFF, 8), hash_32(0xFFFFFFFF, 10), hash_32(0x20010DB9, 10)) == (158, 632, 252)
    assert fold(AF_INET6, 0xFFFFFFFF << 96 | 1) == 0xFFFFFFFE
    assert (hsiphash_u32(0x0A000001, 2654435761), hsiphash_u32(0xC0A8010A, 2654446892)) == (0x03080CE4, 0xDDEF2D2D)
    svc = Bench(None).svc
    assert dest_key(svc, Dest(svc, AF_INET, 0xFFFFFFFF, 40000)) == 0x9C3F


@pytest.mark.parametrize("options", [{}, {"af": AF_INET6}, {"af": AF_INET6, "fwmark": 26}])
def test_line_names_the_service(options: dict[str, Any]) -> None:
    named = {0: "TCP 10.0.0.100:80", 1: "TCP [2001:db8::100]:80", 2: "FWM 26 0x0000001A"}[len(options)]
    assert error_text(Bench("rr", **options).svc, "x") == f"IPVS: rr: {named} - x"


def test_limit_of_lines_from_the_first_one_on() -> None:
    """The first interval begins with the first line, not with the clock."""
    clock = Clock(hz=250, start_jiffies=100)
    lines: list[str] = []
    limit = RateLimit(clock, lambda level, text: lines.append(text))
    assert [limit.allow() for _ in range(11)] == [True] * 10 + [False]
    clock.advance(5 * 250)
    assert not limit.allow()
    clock.advance(1)
    assert limit.allow()
    assert lines == ["net_ratelimit: 2 callbacks suppressed"]


def test_limits_below_1() -> None:
    """Only an interval of 0 lets all through; a burst that is not above the count lets nothing through."""
    clock = Clock(hz=250, start_jiffies=100)
    assert not RateLimit(clock, print, interval=-1, burst=0).allow()
    assert not RateLimit(clock, print, burst=-1).allow()


class Alike(Scheduler):
    """All of them are equal, but each has its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    __hash__ = None  # type: ignore[assignment]

    def schedule(self, svc: Any, pkt: Any, iph: Any) -> None:
        return None


def test_registry_tells_objects_apart_by_identity_and_names_by_their_letters() -> None:
    registry = Registry()
    registry.register(Alike("one"))
    with pytest.raises(IPVSError):
        registry.unregister(Alike("other"))
    assert registry.register(Alike("other")).name == "other"
    with pytest.raises(IPVSError):
        registry.register(Alike("".join("rr")))


def test_of_equal_schedulers_the_one_that_is_meant_is_unregistered() -> None:
    registry = Registry()
    older, newer = Alike("older"), Alike("newer")
    registry.register(older)
    registry.register(newer)
    registry.unregister(older)
    assert registry.get("newer") is newer


def test_own_schedule_reads_the_header_unless_it_says_otherwise() -> None:
    kind = next(kind for kind in SCHEDULERS if kind.name == "rr")

    class Reading(kind):  # type: ignore[misc, valid-type]
        def schedule(self, svc: Any, pkt: Any, iph: Any) -> Any:
            return None

    class Quiet(Reading):
        reads_header = False

        def schedule(self, svc: Any, pkt: Any, iph: Any) -> Any:
            return None

    class Inheriting(kind):  # type: ignore[misc, valid-type]
        name = "heir"

    assert (kind.reads_header, Reading.reads_header, Quiet.reads_header, Inheriting.reads_header) == (False, True, False, False)
    assert [kind.name for kind in SCHEDULERS if kind.reads_header] == ["lblc", "lblcr", "dh", "sh", "mh"]
    assert Alike("x").reads_header
    mixed: Any = type("Mixed", (type("Part", (), {"schedule": Alike.schedule}), Scheduler), {})  # a schedule from elsewhere
    assert mixed.reads_header
    assert Scheduler.name == ""
    with pytest.raises(TypeError):
        type("Empty", (Scheduler,), {"name": "empty"})()


@pytest.mark.parametrize("name", [kind.name for kind in SCHEDULERS if not kind.reads_header])
def test_schedulers_that_read_no_header_do_without(name: str) -> None:
    bench = pool(name, 1, 1)
    bind_scheduler(bench.svc, bench.registry.get(name))
    assert bench.svc.scheduler.schedule(bench.svc, SYN, None) is not None
