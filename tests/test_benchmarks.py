"""The benchmark cases are right (they check themselves while they run), and large rule sets stay correct. Nothing is timed here."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from benchmarks import cases
from benchmarks.measure import Figure

from ipvs_model import IPVS, Environment, Hook, Packet
from ipvs_model.invariants import check
from ipvs_model.packet.view import fill_iph

SIZE = 1000
VIP = cases.VIP


def built(name: str) -> cases.Case:
    """A case in miniature: what is timed, its floor, how many operations."""
    return {
        "established": lambda: cases.established(20, 4, 1),
        "established, applied": lambda: cases.established(20, 4, 1, apply=True),
        "wlc choices": lambda: cases.wlc_choices(10, 3),
        "mh choices": lambda: cases.mh_choices(10, 30),
        "mh tables": lambda: cases.mh_tables(10),
        "many services": lambda: cases.many_services(10, 40),
    }[name]()


@pytest.mark.parametrize("name", ["established", "established, applied", "wlc choices", "mh choices", "mh tables", "many services"])
def test_a_case_and_its_floor_run_more_than_once(name):
    case, floor, operations = built(name)
    for _ in range(3):
        case()
        floor()
    assert operations > 0


def test_a_figure_is_good_within_its_limit():
    assert Figure("X", "", "F", (1.0, 2.0, 9.0), 2).good
    assert not Figure("X", "", "F", (1.0, 2.1, 9.0), 2).good
    assert Figure("X", "words", "F", (1.0, 2.0, 9.0), 2).as_json() == {"id": "X", "what": "words", "median": 2.0, "min": 1.0, "max": 9.0, "unit": "F", "limit": 2}


def test_every_case_has_a_number_and_a_name():
    assert {case.__name__.upper() for case in cases.CASES.values()} == set(cases.CASES)
    assert all(case.__doc__ for case in cases.CASES.values())


# --- a thousand of everything ---------------------------------------------------------------------------------------------
def connect(ipvs: IPVS, number: int, to: object = VIP) -> None:
    ipvs.process(Packet.tcp(cases.client(number), to, "S", device="cli"))


def test_wlc_over_1000_destinations_keeps_them_equally_full_for_their_weight():
    ipvs = cases.director(SIZE)
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
    ipvs = cases.director(SIZE)
    svc = ipvs.services[0]
    for dest in svc.destinations:
        ipvs.edit_dest(svc, dest, weight=rng.choice((0, 1, 2, 100)))
        dest.totalconns = rng.randrange(50)
        dest.activeconns = rng.randrange(dest.totalconns + 1)
    syn = Packet.tcp(cases.client(0), VIP, "S")
    usable = [dest for dest in svc.destinations if dest.weight]
    best = min(usable, key=lambda dest: ((dest.activeconns * 256 + dest.totalconns) / dest.weight, svc.destinations.index(dest)))
    assert svc.scheduler.schedule(svc, syn, fill_iph(syn)) is best


def choices(ipvs: IPVS, clients: int) -> list[object]:
    svc = ipvs.services[0]
    syns = [Packet.tcp((0xCB007100 + number, 40000), VIP, "S") for number in range(clients)]
    return [svc.scheduler.schedule(svc, syn, fill_iph(syn)) for syn in syns]


def test_mh_over_1000_destinations_deals_out_4_or_5_slots_each_and_holds_them():
    ipvs = cases.director(SIZE, "mh")
    choices(ipvs, 1)
    assert Counter(dest.refcnt - 1 for dest in ipvs.services[0].destinations) == {4: 907, 5: 93}
    check(ipvs.ns)


def test_mh_over_1000_destinations_moves_few_when_one_leaves_and_all_come_back_with_it():
    ipvs = cases.director(SIZE, "mh")
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
        connect(ipvs, number, (svc.addr, svc.port))
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
