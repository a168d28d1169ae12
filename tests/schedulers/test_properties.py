"""What must hold of the schedulers for any pool: Hypothesis, with a naive twin where there is one."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from fractions import Fraction
from itertools import product
from math import gcd
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.schedulers.bench import Bench, Queue, name_of, pool, state

from ipvs_model.dest import Dest
from ipvs_model.flags import IP_VS_DEST_F_OVERLOAD
from ipvs_model.schedulers import SCHEDULERS, mh
from ipvs_model.schedulers.sh import deal
from ipvs_model.schedulers.weights import conn_overhead, usable

NAMES = [kind.name for kind in SCHEDULERS]
weights = st.lists(st.integers(0, 12), min_size=1, max_size=8)
positive = st.lists(st.integers(1, 12), min_size=1, max_size=8)
server = st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 600), st.booleans())
servers = st.lists(server, min_size=0, max_size=8)
odd_count = st.one_of(st.integers(-3, 3), st.integers((1 << 22) - 2, (1 << 24) + 2))


def loaded(scheduler: str, rows: list[tuple[int, int, int, bool]], **options: Any) -> Bench:
    """A pool of (weight, active, inactive, overloaded)."""
    bench = pool(scheduler, *(row[0] for row in rows), **options)
    for number, (_, active, inactive, overloaded) in enumerate(rows, 1):
        bench.conns(f"10.0.0.{number}:80", active, active + inactive)
        bench.overload(f"10.0.0.{number}:80", overloaded)
    return bench


# --- rr and wrr -------------------------------------------------------------------------------------------------------


@given(servers, st.integers(0, 20))
def test_rr_takes_each_usable_one_once_a_round(rows: list[tuple[int, int, int, bool]], before: int) -> None:
    bench = loaded("rr", rows)
    bench.choices(before)
    live = [name_of(dest) for dest in bench.svc.destinations if usable(dest)]
    assert Counter(bench.choices(len(live))) == Counter(live)


@given(positive, st.integers(0, 40), st.booleans())
def test_wrr_honours_weights_over_any_cycle(pool_weights: list[int], before: int, late: bool) -> None:
    bench = pool("wrr", *pool_weights)
    if late:
        bench.unbind()
        bench.bind("wrr")
    bench.choices(before + len(pool_weights))  # the cycle that is under way when the last one is added may be short
    divisor = gcd(*pool_weights)
    counts = Counter(bench.choices(sum(pool_weights) // divisor))
    assert counts == {f"10.0.0.{number}:80": weight // divisor for number, weight in enumerate(pool_weights, 1)}


def naive_wrr(destinations: list[Dest], mark: tuple[Dest | None, int, int, int]) -> tuple[Dest | None, Dest | None, int]:
    """Section 9.2 word by word, without the shortcut: (chosen, cursor, cw)."""
    cursor, cw, mw, di = mark
    if mw == 0:
        return None, cursor, cw
    ring: list[Dest | None] = [None, *destinations]
    place = start = ring.index(cursor)
    stop, last_pass, restarted = -1, False, False
    while True:
        place = (place + 1) % len(ring)
        dest = ring[place]
        if dest is not None:
            if not dest.flags & IP_VS_DEST_F_OVERLOAD and dest.weight >= cw:
                return dest, dest, cw
            if place == stop:
                return None, dest, cw
            continue
        cw -= di
        if cw <= 0:
            cw = mw
            if last_pass or start == 0:
                return None, None, cw
            restarted = True
        last_pass = cw <= di
        if last_pass and restarted and start != 0:
            stop = start


program = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(0), st.just(0)),
        st.tuples(st.just("edit"), st.integers(1, 6), st.sampled_from([0, 1, 2, 3, 4, 6, 30, 61, 100])),
        st.tuples(st.just("overload"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("toggle"), st.integers(1, 6), st.sampled_from([0, 1, 2, 5, 10])),
    ),
    max_size=40,
)


def run_step(bench: Bench, op: str, number: int, value: int) -> None:
    """Edit, delete or add one of the destinations .1 to .6, or flip its OVERLOAD."""
    name = f"10.0.0.{number}:80"
    dest = bench.known.get(name)
    if op == "toggle":
        if dest is not None and dest.available:
            bench.delete(name)
        else:
            bench.add(name, value)
    elif dest is not None and dest.available:
        if op == "edit":
            bench.edit(name, value)
        elif op == "overload":
            bench.overload(name, not dest.overloaded)


@given(weights, program)
def test_wrr_shortcut_changes_nothing(pool_weights: list[int], steps: list[tuple[str, int, int]]) -> None:
    bench = pool("wrr", *pool_weights)
    mark = bench.svc.sched_data
    for op, number, value in steps:
        run_step(bench, op, number, value)
        expected = naive_wrr(bench.svc.destinations, (mark.cursor.dest, mark.cw, mark.mw, mark.di))
        assert (bench.ask(), mark.cursor.dest, mark.cw) == expected


def test_wrr_shortcut_changes_nothing_in_any_small_pool() -> None:
    """All pools of three with weights 0 to 4, all sets of them overloaded after two choices."""
    for pool_weights in product(range(5), repeat=3):
        for flags in product((False, True), repeat=3):
            bench = pool("wrr", *pool_weights)
            mark = bench.svc.sched_data
            bench.choices(2)
            for number, flag in enumerate(flags, 1):
                bench.overload(f"10.0.0.{number}:80", flag)
            for _ in range(6):
                expected = naive_wrr(bench.svc.destinations, (mark.cursor.dest, mark.cw, mark.mw, mark.di))
                assert (bench.ask(), mark.cursor.dest, mark.cw) == expected


def test_wrr_with_huge_coprime_weights_answers_at_once() -> None:
    bench = pool("wrr", 2_000_000_011, 2_000_000_033, 1)
    bench.choices(3)
    bench.overload("10.0.0.1:80")
    bench.overload("10.0.0.2:80")
    assert set(bench.choices(10)) == {"10.0.0.3:80"}
    bench.overload("10.0.0.3:80")
    assert bench.choices(1) == ["-"]


class NaiveRoundRobin:
    """rr on a linked ring with a head, by hand."""

    def __init__(self, names: list[str]) -> None:
        self.ring = ["HEAD", *names]
        self.place = "HEAD"

    def delete(self, name: str) -> None:
        if self.place == name:
            self.place = self.ring[self.ring.index(name) - 1]
        self.ring.remove(name)

    def ask(self, live: set[str]) -> str:
        start = self.ring.index(self.place)
        order = self.ring[start + 1 :] + self.ring[: start + 1]
        for name in order:
            if name in live:
                self.place = name
                return name
        return "-"


@given(weights, program)
def test_rr_against_a_ring(pool_weights: list[int], steps: list[tuple[str, int, int]]) -> None:
    bench = pool("rr", *pool_weights)
    naive = NaiveRoundRobin([name_of(dest) or "" for dest in bench.svc.destinations])
    for op, number, value in steps:
        before = [name_of(dest) or "" for dest in bench.svc.destinations]
        run_step(bench, op, number, value)
        after = [name_of(dest) or "" for dest in bench.svc.destinations]
        for name in set(before) - set(after):
            naive.delete(name)
        for name in set(after) - set(before):
            naive.ring.insert(1, name)
        assert bench.choices(1) == [naive.ask({name_of(dest) or "" for dest in bench.svc.destinations if usable(dest)})]


# --- least loaded and heaviest ----------------------------------------------------------------------------------------


def smallest(dests: list[Dest], load: Any) -> Dest | None:
    """By fractions: the first of the smallest."""
    return min((dest for dest in dests if usable(dest)), key=load, default=None)


@given(servers)
def test_least_loaded_schedulers_against_fractions(rows: list[tuple[int, int, int, bool]]) -> None:
    for name, load in (
        ("lc", conn_overhead),
        ("wlc", lambda dest: Fraction(conn_overhead(dest), dest.weight)),
        ("sed", lambda dest: Fraction(dest.activeconns + 1, dest.weight)),
        ("nq", lambda dest: Fraction(dest.activeconns + 1, dest.weight) if dest.activeconns else Fraction(0)),
        ("fo", lambda dest: -dest.weight),
        ("lblc", lambda dest: Fraction(conn_overhead(dest), dest.weight)),
        ("lblcr", lambda dest: Fraction(conn_overhead(dest), dest.weight)),
    ):
        bench = loaded(name, rows)
        assert bench.ask() is smallest(bench.svc.destinations, load), name


def as_int(value: int) -> int:
    """A number as a C ``int`` keeps it."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


@given(st.lists(st.tuples(st.integers(0, 3), odd_count, odd_count, st.sampled_from([False, False, True])), min_size=1, max_size=6))
@example([(1, 0, 0, False), (10, -1, 0, False), (1, -1, 0, False)])
@example([(2, 1, 0, False), (3, 1 << 24, 5, False)])
def test_overheads_below_nothing_and_beyond_an_int(rows: list[tuple[int, int, int, bool]]) -> None:
    """More connections gone inactive than were active, or more than an ``int`` holds: wlc by signed products, lc by unsigned loads."""
    for name in ("wlc", "lc"):
        bench = loaded(name, rows)
        best = None
        for dest in bench.svc.destinations:
            if dest.overloaded or ((best is None or name == "lc") and dest.weight == 0):
                continue
            least = None if best is None else as_int(256 * best.activeconns + best.totalconns)
            load = as_int(256 * dest.activeconns + dest.totalconns)
            if best is None or least is None or (least * dest.weight > load * best.weight if name == "wlc" else least % (1 << 32) > load % (1 << 32)):
                best = dest
        assert bench.ask() is best, name


@given(servers)
def test_ovf_takes_the_heaviest_with_room(rows: list[tuple[int, int, int, bool]]) -> None:
    bench = loaded("ovf", rows)
    room = [dest for dest in bench.svc.destinations if dest.activeconns <= dest.weight]
    assert bench.ask() is smallest(room, lambda dest: -dest.weight)


@given(st.lists(server, min_size=1, max_size=4))
def test_twos_takes_the_better_of_the_two_drawn(rows: list[tuple[int, int, int, bool]]) -> None:
    bench = loaded("twos", rows)
    queue = Queue()
    bench.ns.rng = queue  # type: ignore[assignment]
    live = [dest for dest in bench.svc.destinations if usable(dest)]
    drawn = [*live[:1], *(dest for dest in live for _ in range(dest.weight))]  # a draw of 0 also means the first
    for one, first in enumerate(drawn):
        for other, second in enumerate(drawn):
            queue.values.extend((one, other))
            better = smallest([first, second], lambda dest: Fraction(conn_overhead(dest), dest.weight))
            assert bench.ask() is better
    assert set(queue.ceilings) <= {len(drawn)}


# --- hashing ----------------------------------------------------------------------------------------------------------


@given(weights)
def test_sh_deals_buckets_by_weight(pool_weights: list[int]) -> None:
    bench = pool("sh", *pool_weights)
    turn = sum(max(weight, 1) for weight in pool_weights)
    for dest, count in Counter(bench.svc.sched_data.table).items():
        share = max(dest.weight, 1)
        assert 256 // turn * share <= count <= (256 // turn + 1) * share
    stream = deal(bench.svc.destinations)
    assert bench.svc.sched_data.table == [next(stream) for _ in range(256)]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_mh_deals_slots_by_turns(pool_weights: list[int]) -> None:
    bench = pool("mh", *pool_weights)
    data = bench.svc.sched_data
    slots = Counter(data.ready(bench.svc))
    divisor = gcd(*pool_weights)
    if divisor == 0:
        assert slots == {None: 4093}
        return
    turns = {dest: max(1, dest.weight // divisor >> data.rshift) for dest in bench.svc.destinations if dest.weight}
    rounds = 4093 // sum(turns.values())
    assert slots.keys() == turns.keys()
    for dest, count in slots.items():
        assert rounds * turns[dest] <= count <= (rounds + 1) * turns[dest]
        assert data.counts[dest] == count == dest.refcnt - 1


@given(st.integers(2, 12), st.data())
def test_mh_moves_few_clients_when_a_server_leaves(size: int, data: st.DataObject) -> None:
    bench = pool("mh", *[1] * size)
    state = bench.svc.sched_data
    before = list(state.ready(bench.svc))
    leaver = bench.known[f"10.0.0.{data.draw(st.integers(1, size))}:80"]
    bench.delete(name_of(leaver) or "")
    after = state.ready(bench.svc)
    moved = sum(old is not leaver and old is not new for old, new in zip(before, after, strict=True))
    assert leaver not in after
    assert moved < 4093 / 10
    bench.add(name_of(leaver) or "", 1)
    assert Counter(state.ready(bench.svc)).keys() == set(bench.svc.destinations)


@given(weights, program)
def test_mh_filled_late_is_as_filled_at_once(pool_weights: list[int], steps: list[tuple[str, int, int]]) -> None:
    """With a table of 5 slots, so that there are sometimes more destinations than slots and the table must stay as it was."""
    with patch.object(mh, "TAB_SIZE", 5):
        lazy, eager = Bench("mh"), Bench("mh")
        adds = [("toggle", number, weight) for number, weight in enumerate(pool_weights, 1)]
        for op, number, value in adds + steps:
            if op == "ask":
                assert state(lazy.svc) == state(eager.svc)
            else:
                run_step(lazy, op, number, value)
                run_step(eager, op, number, value)
            eager.svc.sched_data.ready(eager.svc)
        assert state(lazy.svc) == state(eager.svc)
        references = [{name: dest.refcnt for name, dest in bench.known.items()} for bench in (lazy, eager)]
        assert references[0] == references[1]


@pytest.mark.parametrize("name", ["dh", "sh", "mh"])
@given(client=st.integers(0, 0xFFFFFFFF), weight=positive)
def test_hash_schedulers_answer_the_same_again(name: str, client: int, weight: list[int]) -> None:
    bench = pool(name, *weight)
    asked = bench.header(saddr=client, daddr=client)
    assert bench.ask(asked) is bench.ask(asked) is not None


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(weights, program)
def test_choice_is_usable_and_references_come_back(name: str, pool_weights: list[int], steps: list[tuple[str, int, int]]) -> None:
    bench = pool(name, *pool_weights)
    for number, (op, which, value) in enumerate(steps):
        run_step(bench, op, which, value)
        scores = [bench.svc.scheduler.score(bench.svc, dest) for dest in bench.svc.destinations]
        dest = bench.ask(bench.header(saddr=number % 7, daddr=number % 7))
        if dest is not None:
            assert dest in bench.svc.destinations
            assert dest.weight > 0
            # a cached destination is kept when its flag goes up: the kernel does not look
            assert not dest.overloaded or name == "lblc"
            assert scores[bench.svc.destinations.index(dest)] is not None or name in ("rr", "lblc")
            dest.totalconns += 1
            dest.activeconns += number % 2
    bench.unbind()
    assert {dest.held for dest in bench.known.values()} == {1}
    assert next(bench.ns.clock.pending_timers(), None) is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"])
def test_copy_goes_on_alike_and_alone(name: str, way: Any) -> None:
    bench = pool(name, 3, 1, 2)
    del bench.ns.net_ratelimit, bench.registry  # functions of the test that do not pickle
    bench.choices(4)
    twin = way(bench)
    for one in (bench, twin):
        one.ns.net_ratelimit = lambda: True
        one.ns.clock.advance(seconds=70)
    assert bench.choices(6) == twin.choices(6)
    twin.delete("10.0.0.1:80")
    assert "10.0.0.1:80" not in twin.choices(12)
    assert len(bench.svc.destinations) == 3
    assert all(dest.svc is twin.svc for dest in twin.svc.destinations)
