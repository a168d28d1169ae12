"""The worked examples of the scheduler chapter that no vector repeats, and large pools."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from itertools import islice

import pytest
from tests.schedulers.bench import Bench, pool

from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET6
from ipvs_model.schedulers.hashing import dest_key, hash_32
from ipvs_model.schedulers.mh import State, hsiphash_u32


def last(choices: list[str]) -> str:
    """The last number of each address, in a row."""
    return " ".join(name.split(":")[0].rsplit(".", 1)[1] for name in choices)


def test_rr_example() -> None:
    bench = pool("rr", 1, 1, 1)
    assert last(bench.choices(5)) == "3 2 1 3 2"
    bench.add("10.0.0.4:80")
    assert last(bench.choices(4)) == "1 4 3 2"
    bench.delete("10.0.0.2:80")
    assert last(bench.choices(1)) == "1"


def test_rr_goes_on_behind_the_one_that_is_deleted() -> None:
    for place in range(5):
        bench = pool("rr", 1, 1, 1, 1, 1)
        chosen = bench.choices(place + 1)[-1]
        bench.delete(chosen)
        assert last(bench.choices(4)) == "5 4 3 2 1 5 4 3 2 1"[2 * place + 2 : 2 * place + 9]


def test_wrr_example_fresh_and_grown() -> None:
    grown = pool("wrr", 2, 3, 4)
    assert last(grown.choices(12)) == "3 2 1 3 3 2 3 2 1 3 2 1"
    grown.unbind()
    grown.bind("wrr")
    assert last(grown.choices(10)) == "3 3 2 3 2 1 3 2 1 3"


def test_one_overloaded_wrr_destination() -> None:
    bench = pool("wrr", 1)
    bench.choices(1)
    bench.overload("10.0.0.1:80")
    assert bench.choices(1) == ["-"]
    assert bench.reports() == ["IPVS: wrr: TCP 10.0.0.100:80 - no destination available: all destinations are overloaded"]
    assert bench.svc.sched_data.cw == 1


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("rr", None, None), ("wrr", 3, 1), ("lc", 517, 3), ("wlc", 517, 3), ("sed", 3, 1), ("nq", 3, 0), ("fo", 4, 2), ("ovf", 4, 2), ("twos", 517, 3),
        ("lblc", 517, 3), ("lblcr", 517, 3), ("dh", 64, 64), ("sh", 100, 52), ("mh", 1818, 910),
    ],
)  # fmt: skip
def test_the_number_by_which_each_scheduler_judges(name: str, first: int | None, second: int | None) -> None:
    bench = pool(name, 4, 2, 0, 3)
    bench.conns("10.0.0.1:80", 2, 5)
    bench.conns("10.0.0.2:80", 0, 3)
    bench.overload("10.0.0.4:80")
    bench.known["10.0.0.1:80"].flags |= 1 << 20  # a flag that means nothing here
    assert [bench.svc.scheduler.score(bench.svc, dest) for dest in bench.known.values()] == [first, second, None, None]


def test_lc_judges_in_32_bits_and_nobody_judges_a_weight_below_0() -> None:
    bench = pool("lc", 1)
    bench.conns("10.0.0.1:80", -1, 0)
    assert bench.svc.scheduler.score(bench.svc, bench.known["10.0.0.1:80"]) == 0xFFFFFF00
    for name in ("wrr", "wlc", "sed", "fo", "sh"):
        bench = pool(name, 1, 1)
        bench.edit("10.0.0.2:80", -1)
        assert bench.svc.scheduler.score(bench.svc, bench.known["10.0.0.2:80"]) is None


def test_hash_table_of_the_chapter() -> None:
    assert [hash_32(0xC0A8010A, 8), hash_32(0xC0A8010A + 40000, 8), hash_32(0, 8), hash_32(0x00009C3F, 8)] == [248, 156, 0, 66]
    assert [hsiphash_u32(value, 2654435761) for value in (0, 1, 0xFFFFFFFF)] == [0x1D5A77C2, 0x16EC66B2, 0x22C5D719]
    assert [hsiphash_u32(value, 2654446892) for value in (0, 1, 0xFFFFFFFF)] == [0xF882433F, 0x8210AAD1, 0xF75A0F5D]


def test_mh_example() -> None:
    bench = pool("mh", 1, 1, 2)
    table = bench.svc.sched_data.ready(bench.svc)
    assert last([f"{ip_address(dest.addr)}:80" for dest in islice(table, 20)]) == "1 2 3 3 3 3 2 3 3 1 1 2 2 1 1 3 2 3 3 1"
    assert Counter(dest.addr & 255 for dest in table) == {3: 2047, 1: 1023, 2: 1023}
    assert [State().permutation(0x0A000000 + number + 80) for number in (1, 2, 3)] == [(3167, 700), (1231, 3544), (1631, 3453)]
    bench = pool("mh", 100, 300, 6500)
    assert Counter(dest.addr & 255 for dest in bench.svc.sched_data.ready(bench.svc)) == {1: 120, 2: 120, 3: 3853}


def test_mixed_families_fold_by_the_family_of_the_service() -> None:
    v4, v6 = Bench(None).svc, Bench(None, af=AF_INET6).svc
    addr6 = int(ip_address("2001:db8::1"))
    assert dest_key(v4, Dest(v4, AF_INET6, addr6, 80)) == 0x20010DB8 + 80
    assert dest_key(v6, Dest(v6, AF_INET6, addr6, 80)) == 0x20010DB9 + 80
    assert dest_key(v6, Dest(v6, 2, 0x0A000001, 80)) == 0x0A000001 + 80


def test_a_thousand_destinations() -> None:
    names = [f"10.1.{number >> 8}.{number & 255}:80" for number in range(1000)]
    for scheduler in ("rr", "wrr", "wlc", "lc", "mh", "sh", "twos"):
        bench = Bench(scheduler)
        for name in names:
            bench.add(name)
        chosen = []
        for number in range(2000 if scheduler in ("rr", "wrr", "wlc", "lc") else 300):
            dest = bench.ask(bench.header(saddr=0xC0A80000 + number))
            assert dest is not None
            dest.totalconns += 1
            chosen.append(dest)
        if scheduler in ("rr", "wrr", "wlc", "lc"):
            assert chosen == bench.svc.destinations * 2
        if scheduler == "mh":
            assert set(Counter(bench.svc.sched_data.ready(bench.svc)).values()) == {4, 5}
