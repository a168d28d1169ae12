"""The benchmark cases are right (they check themselves while they are made and run), and large rule sets stay correct. Nothing is timed here."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter

import pytest
from benchmarks import churn, established, expiry, growth, instructions, measure, memory, naive, oracle, page, traffic
from benchmarks.goals import GOALS, Goal
from benchmarks.measure import Case, Figure, Pair

from ipvs_model import IPVS, Environment, Hook, Packet
from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.invariants import check
from ipvs_model.packet.view import fill_iph

SIZE = 1000
VIP = traffic.VIP
IN_MINIATURE = {
    **{work: lambda work=work: established.established(20, 4, 1, work=work) for work in ("verdict", "in place", "new packet", "receive")},
    "the clock moves on every packet": lambda: established.established(20, 1, 1),
    "IPv6": lambda: established.established(20, 4, 1, af=AF_INET6),
    "UDP": lambda: established.established(20, 4, 1, protocol="udp"),
    "direct routing": lambda: established.established(20, 4, 1, hooks=(Hook.LOCAL_IN,), forward="direct"),
    "tunnel": lambda: established.established(20, 4, 1, hooks=(Hook.LOCAL_IN,), forward="tunnel", work="new packet"),
    "observed": lambda: established.established(20, 4, 1, observed=True),
    "churn": lambda: churn.churn(60),
    "churn, persistent": lambda: churn.churn(60, persistent=300),
    "flood": lambda: churn.flood(50),
    "flood into a full table": lambda: churn.flood(50, 100),
    "expiry": lambda: expiry.expire(50),
    "expiry in steps": lambda: expiry.expire(50, stepwise=True),
    **{f"re-arming, {kind}": lambda kind=kind: expiry.rearm(50, 10, 2, kind) for kind in ("same", "bucket", "state")},
    "idle ticks": lambda: expiry.idle_ticks(True, 2000),
    "naive twin": lambda: oracle.against_naive(10, 10),
    "packets of many services": lambda: growth.packets_over(10, 40, 1),
    "connections of many services": lambda: growth.begin_over(10, 40),
    "wlc": lambda: growth.wlc_choices(10, 3),
    **{scheduler: lambda scheduler=scheduler: growth.constant_choices(scheduler, 10, 30) for scheduler in ("rr", "mh", "sh")},
    "mh tables": lambda: growth.mh_tables(10),
}


@pytest.mark.parametrize("name", IN_MINIATURE)
def test_a_case_and_its_floor_run_more_than_once(name):
    pair = IN_MINIATURE[name]()
    assert pair.operations > 0
    assert all(function() >= 0 for _ in range(3) for function in (pair.model, pair.other))


def test_a_figure_is_a_defect_when_it_is_worse_than_good():
    assert not Figure("X", "", "F", (1.0, 2.0, 9.0), Goal("F", 2)).is_defect
    assert Figure("X", "", "F", (1.0, 2.1, 9.0), Goal("F", 2)).is_defect
    assert Figure("X", "", "x", (1.0, 1.9, 9.0), Goal("x", 2)).is_defect
    assert not Figure("X", "", "x", (1.0, 1.9, 9.0), Goal("x", 2, required=False)).is_defect
    assert not Figure("X", "", "F", (1.0,)).is_defect


@pytest.mark.parametrize(("unit", "ratio", "mark"), [("F", 7, ""), ("F", 6, "good"), ("F", 3, "excellent"), ("F", 1, "impossible"), ("x", 1, ""), ("x", 7, "impossible")])
def test_the_best_mark_that_is_reached_is_named(unit, ratio, mark):
    goal = Goal("F", 6, 3.5, 2.5) if unit == "F" else Goal("x", 2, 4, 6)
    assert goal.reached(ratio) == mark


def test_figures_as_json_hold_median_spread_and_goals():
    row = Figure("X", "words", "F", (1.0, 2.0, 9.0), Goal("F", 3, 2), 17.0).as_json()
    assert {name: row[name] for name in ("ratio", "spread", "unit", "good", "excellent", "impossible", "reached")} == {
        "ratio": 2.0, "spread": [1.0, 9.0], "unit": "F", "good": 3, "excellent": 2, "impossible": None, "reached": "excellent",
    }  # fmt: skip


def test_alternatives_take_turns_at_being_first():
    order = []
    measure.race([lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0], 3, False)
    assert "".join(order) == "abbaab"


@pytest.mark.parametrize(("unit", "ratio"), [("F", 2.0), ("x", 0.5)])
def test_a_case_forms_the_ratio_in_each_round(unit, ratio):
    assert Case("none", "", lambda: Pair(lambda: 4.0, lambda: 2.0, 2), unit=unit).measure().ratios == (ratio,) * measure.ROUNDS


def test_memory_is_weighed_in_a_process_of_its_own():
    assert 100 < memory.in_fresh_process("weigh_objects", 2000)[0] < 2000


def test_the_naive_twin_disagrees_when_it_is_wrong(monkeypatch):
    steps = oracle.trace(10, 10)
    oracle.agree(steps)
    monkeypatch.setattr(naive, "HZ", 200)
    with pytest.raises(AssertionError):
        oracle.agree(steps)


# --- a thousand of everything ---------------------------------------------------------------------------------------------
def connect(ipvs: IPVS, number: int, to: int = VIP) -> None:
    ipvs.process(Packet.tcp_between(AF_INET, traffic.client(number), to, device="cli"))


def test_wlc_over_1000_destinations_keeps_them_equally_full_for_their_weight():
    ipvs = traffic.director(SIZE)
    svc = ipvs.services[0]
    for number, dest in enumerate(svc.destinations):
        ipvs.edit_dest(svc, dest, weight=1 + number % 3)
    for number in range(sum(dest.weight for dest in svc.destinations)):
        connect(ipvs, number)
    assert Counter((dest.weight, dest.activeconns) for dest in svc.destinations) == {(1, 1): 334, (2, 2): 333, (3, 3): 333}
    check(ipvs.ns)


@pytest.mark.parametrize("seed", range(3))
def test_wlc_over_1000_destinations_takes_the_least_loaded_first_in_the_list(seed):
    rng = random.Random(seed)
    ipvs = traffic.director(SIZE)
    svc = ipvs.services[0]
    for dest in svc.destinations:
        ipvs.edit_dest(svc, dest, weight=rng.choice((0, 1, 2, 100)))
        dest.totalconns = rng.randrange(50)
        dest.activeconns = rng.randrange(dest.totalconns + 1)
    syn = Packet.tcp_between(AF_INET, traffic.client(0), VIP)
    usable = [dest for dest in svc.destinations if dest.weight]
    best = min(usable, key=lambda dest: ((dest.activeconns * 256 + dest.totalconns) / dest.weight, svc.destinations.index(dest)))
    assert svc.scheduler.schedule(svc, syn, fill_iph(syn)) is best


def choices(ipvs: IPVS, clients: int) -> list[object]:
    svc = ipvs.services[0]
    syns = [Packet.tcp_between(AF_INET, 0xCB007100 + number << 16 | 40000, VIP) for number in range(clients)]
    return [svc.scheduler.schedule(svc, syn, fill_iph(syn)) for syn in syns]


def test_mh_over_1000_destinations_deals_out_4_or_5_slots_each_and_holds_them():
    ipvs = traffic.director(SIZE, "mh")
    choices(ipvs, 1)
    assert Counter(dest.refcnt - 1 for dest in ipvs.services[0].destinations) == {4: 907, 5: 93}
    check(ipvs.ns)


def test_mh_over_1000_destinations_moves_few_when_one_leaves_and_all_come_back_with_it():
    ipvs = traffic.director(SIZE, "mh")
    svc = ipvs.services[0]
    before = choices(ipvs, 2000)
    gone = svc.destinations[500]
    address = (gone.addr, gone.port)
    ipvs.delete_dest(svc, gone)
    after = choices(ipvs, 2000)
    moved = sum(one is not other for one, other in zip(before, after, strict=True) if one is not gone)
    assert gone not in after
    assert moved < 2000 * 0.02
    ipvs.add_dest(svc, address)
    back = choices(ipvs, 2000)
    assert sum(one is not other for one, other in zip(before, back, strict=True)) < 2000 * 0.02
    check(ipvs.ns)


def test_1000_services_each_give_their_clients_their_own_server():
    ipvs = IPVS(Environment())
    services = []
    for number in range(SIZE):
        svc = ipvs.add_service("tcp", (0xC0000200 + number // 100, 1000 + number % 100), scheduler=("rr", "wlc", "mh", "sh")[number % 4])
        services.append((svc, ipvs.add_dest(svc, (0x0A010000 + number + 1, 8080))))
    for number, (svc, _) in enumerate(services):
        connect(ipvs, number, svc.addr << 16 | svc.port)
    assert all(dest.activeconns == 1 and dest.stats.conns == 1 for _, dest in services)
    for cp in ipvs.conns():
        assert cp.dest is not None and (cp.dest.vaddr, cp.dest.vport) == (cp.vaddr, cp.vport)
        answer = ipvs.process(Packet.tcp((cp.daddr, cp.dport), (cp.caddr, cp.cport), "SA", device="rs"), Hook.FORWARD)
        assert answer.reason == "translated"
    check(ipvs.ns)
    saved = ipvs.ipvsadm("-S -n").out
    twin = IPVS()
    assert twin.ipvsadm("-R", stdin=saved).status == 0
    assert twin.ipvsadm("-S -n").out == saved
    for svc, _ in services[::2]:
        ipvs.delete_service(svc)
    assert len(ipvs.services) == SIZE // 2
    check(ipvs.ns)


# --- what is kept ---------------------------------------------------------------------------------------------------------
def test_the_page_shows_the_figures_that_are_kept():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text) == text
    assert {"3.11", "3.12", "3.13"} == set(page.figures())


def test_every_goal_has_its_row_on_the_page():
    main = page.figures()[page.MAIN]
    for name, goal in GOALS.items():
        row = main[name]
        assert (row["good"], row["excellent"], row["impossible"]) == (goal.good, goal.excellent, goal.impossible), name


@pytest.mark.parametrize(("counted", "status"), [(4.0, 0), (4.39, 0), (4.41, 1), (3.0, 0)])
def test_more_than_a_tenth_more_instructions_than_kept_is_a_failure(counted, status, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "instructions.json"
    kept.write_text(json.dumps({instructions.VERSION: {"E1": 4.0}}))
    monkeypatch.setattr(instructions, "KEPT", kept)
    monkeypatch.setattr(instructions, "ratio", lambda case: counted)
    monkeypatch.setattr(sys, "argv", ["instructions", "E1"])
    assert instructions.main() == status
    assert ("WORSE" in capsys.readouterr().out) == bool(status)


def test_instructions_are_kept_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "instructions.json")
    monkeypatch.setattr(instructions, "ratio", lambda case: 5.0)
    monkeypatch.setattr(sys, "argv", ["instructions", "--update", "E1", "C1"])
    assert instructions.main() == 0
    assert json.loads((tmp_path / "instructions.json").read_text()) == {instructions.VERSION: {"C1": 5.0, "E1": 5.0}}


@pytest.mark.parametrize("case", instructions.MAKERS)
def test_both_sides_of_a_counted_case_run(case):
    for side in ("model", "other"):
        instructions.run(case, side, 1)
