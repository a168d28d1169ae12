"""The periodic check of lblc and lblcr under the kernel's timer wheel, and what their entries hold."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest
from tests.schedulers.bench import Bench, pool, state

from ipvs_model.schedulers import cache

both = pytest.mark.parametrize("scheduler", ["lblc", "lblcr"])


@both
@pytest.mark.parametrize("hz", [100, 250, 300, 1000])
def test_check_runs_late_and_then_every_61_and_a_half_seconds(scheduler: str, hz: int) -> None:
    bench = Bench(scheduler, hz=hz)
    clock, table = bench.ns.clock, bench.svc.sched_data
    start = clock.now
    runs = []
    for _ in range(4):
        deadline = clock.next_deadline()
        assert deadline is not None
        clock.advance_to(deadline)
        runs.append(clock.now)
    assert table.counter == 5
    assert 1 <= runs[0] - start - 60 * hz <= (4096 if hz == 1000 else 512)
    assert {after - before for before, after in itertools.pairwise(runs)} == {round(61.44 * hz)}


@both
def test_unused_entry_goes_with_the_full_check(scheduler: str) -> None:
    bench = pool(scheduler, 1, 1)
    bench.ns.sysctl.write(f"{scheduler}_expiration", "1000")
    bench.ask()
    dest = bench.svc.destinations[0]
    assert dest.refcnt == 2
    bench.ns.clock.advance(seconds=29 * 61.44 + 1)
    assert bench.svc.sched_data.entries == 1
    bench.ns.clock.advance(seconds=62)
    assert bench.svc.sched_data.entries == 0
    assert dest.refcnt == 1


@both
def test_unbinding_stops_the_timer(scheduler: str) -> None:
    bench = pool(scheduler, 1)
    bench.ask()
    assert bench.ns.clock.next_deadline() is not None
    bench.unbind()
    assert bench.ns.clock.next_deadline() is None


@both
def test_deleted_destination_is_held_until_its_entry_goes(scheduler: str) -> None:
    bench = pool(scheduler, 1)
    bench.ask()
    dest = bench.svc.destinations[0]
    bench.delete("10.0.0.1:80")
    assert dest.refcnt == 2
    bench.unbind()
    assert dest.refcnt == 1


def test_lblcr_set_grows_under_load_and_shrinks_in_peace() -> None:
    bench = pool("lblcr", 2, 2)
    assert bench.choices(1) == ["10.0.0.2:80"]
    bench.conns("10.0.0.2:80", 3, 3)
    assert bench.choices(1) == ["10.0.0.1:80"]
    assert state(bench.svc)["cache"][0]["set"] == ["10.0.0.1:80", "10.0.0.2:80"]
    bench.advance(bench.ns.sysctl.lblcr_expiration)
    bench.choices(1)
    assert len(state(bench.svc)["cache"][0]["set"]) == 2
    bench.advance(1)
    bench.choices(1)
    assert state(bench.svc)["cache"][0]["set"] == ["10.0.0.1:80"]


@both
def test_partial_check_stops_when_its_goal_is_reached(scheduler: str) -> None:
    """With room for 6 entries: 9 of them make a goal of 3, not 4, for it is at most half of the room."""
    bench = pool(scheduler, 1)
    table = bench.svc.sched_data
    addresses = {table.bucket_of(0x0A080000 + number): 0x0A080000 + number for number in range(12)}
    for address in list(addresses.values())[:9]:
        bench.ask(bench.header(daddr=address))
    before = list(table.buckets)
    assert table.entries == len(before) == 9
    bench.advance(360 * 250)
    with patch.object(cache, "MAX_SIZE", 6):
        table.fire()
    assert table.entries == 6
    assert table.rover == sorted(before)[2]
