"""The work for a packet does not grow with connections or services: counted in executed bytecodes, never in time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from benchmarks.growth import many_services, service_endpoint
from benchmarks.traffic import ACK, SYN, VIP, client, connect, director

from ipvs_model import Hook, Packet
from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_TCP
from ipvs_model.packet.view import fill_iph

FEW, MANY = 10, 1000


def bytecodes(function: Callable[[], object]) -> int:
    """How many bytecodes run in Python functions below this one.

    With the garbage collector at rest: its callbacks (Hypothesis keeps one, in Python) would be counted where a collection happens to fall.
    """
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_a_collection_is_not_counted():
    def allocate() -> None:
        kept.extend([] for _ in range(gc.get_threshold()[0] * 2))

    def on_collection(_phase: str, _info: dict[str, int]) -> None:
        _ = [None for _ in range(10)]

    kept: list[list[None]] = []
    alone = bytecodes(allocate)
    gc.callbacks.append(on_collection)
    try:
        assert bytecodes(allocate) == alone
    finally:
        gc.callbacks.remove(on_collection)


def packet(number: int, to: int, flags: int) -> Packet:
    return Packet.tcp_between(AF_INET, client(number), to, flags, device="cli")


def test_bytecodes_are_counted():
    assert bytecodes(lambda: [number + 1 for number in range(100)]) > bytecodes(lambda: [number + 1 for number in range(10)]) + 90


def steps(conns: int = FEW, services: int = 1) -> dict[str, int]:
    """The work for each packet of a new connection, both ways, and for its end, with so many connections and services around it."""
    ipvs = many_services(services)
    to = service_endpoint(services // 2)
    for number in range(conns):
        ipvs.process(packet(number, service_endpoint(number % services), SYN))
    source = conns + 1
    warm = packet(source + 1, to, SYN)  # what is made once for each service is there
    ipvs.process(warm)
    ipvs.clock.advance(1)
    ipvs.process(packet(source + 1, to, ACK))
    counted = {}
    for name, flags in (("opening", SYN), ("state", ACK), ("established", ACK)):
        arriving = packet(source, to, flags)
        counted[name] = bytecodes(lambda arriving=arriving: ipvs.process(arriving))
    cp = ipvs.ns.conns.table(AF_INET, IPPROTO_TCP)[client(source)]
    answer = Packet.tcp_between(AF_INET, cp.real, cp.client, ACK, device="rs")
    counted["answer"] = bytecodes(lambda: ipvs.process(answer, Hook.FORWARD))
    stranger = packet(source + 7, 0xC6336401 << 16 | 80, SYN)
    counted["stranger"] = bytecodes(lambda: ipvs.process(stranger))
    counted["ended"] = bytecodes(cp.fire)
    return counted


def test_nothing_grows_with_the_connections():
    assert steps(conns=MANY) == steps(conns=FEW)


def test_nothing_grows_with_the_services():
    assert steps(services=MANY) == steps(services=FEW)


@pytest.mark.parametrize("af", [AF_INET, AF_INET6])
@pytest.mark.parametrize("fast_path", [True, False])
def test_an_established_packet_costs_the_same_whatever_there_is_around_it(af, fast_path):
    def count(conns: int, dests: int) -> int:
        ipvs = director(dests, af=af)
        connect(ipvs, conns, af)
        cp = next(iter(ipvs.ns.conns))
        arriving = Packet.tcp_between(af, cp.client, cp.virt, ACK, device="cli")
        process = ipvs.process if fast_path else lambda pkt: ipvs.run_hook(Hook.LOCAL_IN, pkt)
        process(arriving)
        return bytecodes(lambda: process(arriving))

    assert count(FEW, 2) == count(MANY, 64)


def test_a_choice_of_wlc_among_equal_weights_costs_no_more_for_many_destinations():
    def each(dests: int) -> float:
        svc = director(dests, "wlc").services[0]
        schedule, syn = svc.scheduler.schedule, packet(5000, VIP, SYN)

        def choose() -> None:
            for _ in range(4 * dests):
                schedule(svc, syn, None).overhead += 257

        choose()
        return bytecodes(choose) / dests

    assert each(500) <= each(4)


@pytest.mark.parametrize("scheduler", ["rr", "mh", "sh"])
def test_schedulers_that_need_not_look_at_every_destination_do_not(scheduler):
    def count(dests: int) -> int:
        svc = director(dests, scheduler).services[0]
        syn = packet(5000, VIP, SYN)
        header, schedule = fill_iph(syn), svc.scheduler.schedule
        schedule(svc, syn, header)
        return bytecodes(lambda: schedule(svc, syn, header))

    assert count(500) == count(4)
