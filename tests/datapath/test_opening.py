"""Connections that open on the quick road are what the layered path would have made: under every scheduler, for every kind of server, in a stream of arrivals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datapath.test_twins import (
    DIRECT,
    ODDS,
    PERSISTENT,
    PERSISTENT_UDP,
    SIX,
    SYSCTLS,
    TCP,
    TUNNEL,
    UDP,
    UDP_PORTS,
    WAITS,
    Do,
    Flow,
    Talk,
    Twins,
    Wait,
    mostly,
    tell,
)
from tests.lab import CLIENT6

from ipvs_model.datapath import opening, run_hook
from ipvs_model.flags import Hook
from ipvs_model.schedulers.registry import SCHEDULERS

NAMES = [kind.name for kind in SCHEDULERS]
PORTS = (TCP, DIRECT, TUNNEL, PERSISTENT, SIX, UDP, PERSISTENT_UDP)
LOCAL = "127.0.0.1"


def flow(port: int, sport: int, client: str = "203.0.113.5") -> Flow:
    return Flow("udp" if port in UDP_PORTS else "tcp", port, sport, CLIENT6 if port == SIX else client)


FLOWS = st.builds(flow, mostly(TCP, *PORTS, PERSISTENT, PERSISTENT), st.integers(40000, 40011) | st.sampled_from((0, 20, TCP, DIRECT)), mostly("203.0.113.5", "203.0.113.6", "127.0.0.9", "192.0.2.1"))
ARRIVALS = st.builds(Talk, FLOWS, mostly("S", "S", "S", "SA", "SF", "SR", "A", "FA", "R", ""), ttl=mostly(64, 2, 1), size=mostly(0, 1441, 1461))
SERVERS = mostly("A", "B", "C", "D", LOCAL)
COMMANDS = st.one_of(
    st.builds(Do, mostly("add", "delete"), st.sampled_from(PORTS), SERVERS),
    st.builds(Do, st.just("weigh"), st.sampled_from(PORTS), SERVERS, st.sampled_from((0, 1, 2, 5))),
    st.builds(Do, st.just("limit"), st.sampled_from(PORTS), SERVERS, st.sampled_from((0, 1, 2, 4))),
    st.builds(Do, st.just("forward"), st.sampled_from(PORTS), SERVERS, st.sampled_from(("masq", "direct", "tunnel", "local", 5))),
    st.builds(Do, st.just("schedule"), st.sampled_from(PORTS), value=st.sampled_from(NAMES)),
    st.builds(Do, st.sampled_from(("close", "open")), st.sampled_from(PORTS)),
    st.builds(Do, st.just("persist"), st.sampled_from((TCP, PERSISTENT, PERSISTENT, SIX)), value=st.sampled_from(({"persistent": None}, {"persistent": 20}, {"persistent": 300}))),
    st.builds(Do, st.just("persist"), st.just(PERSISTENT), value=st.sampled_from(({"netmask": "255.255.255.0"}, {"netmask": "255.255.255.255"}, {"scheduler": "rr"}))),
    st.builds(Do, st.just("sysctl"), value=st.sampled_from(SYSCTLS)),
    st.builds(Do, st.just("timeouts"), value=st.sampled_from(((10, 5, 7), (900, 120, 300)))),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Any]:
    """Arrivals at services with four servers under drawn schedulers, between commands and waits."""
    servers = [Do("add", port, server) for port in PORTS for server in "CD"]
    rules = [Do("schedule", port, value=draw(st.sampled_from(NAMES))) for port in PORTS]
    kinds = [ARRIVALS] * 12 + [COMMANDS] * 3 + [WAITS] * 2 + [ODDS]
    return servers + rules + draw(st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), min_size=20, max_size=50))


@given(stream=streams(), timers=st.sampled_from(("kernel", "exact")))
def test_connections_open_alike(stream: list[Any], timers: str) -> None:
    twins = Twins(PORTS, timers=timers)
    for step in stream:
        twins.step(step)
    twins.are_alike()


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_is_asked_once_for_a_connection(name: str) -> None:
    """Also when it finds nobody, and when its answer needs care."""
    arrivals = [Talk(flow(TCP, sport), "S") for sport in range(40000, 40006)]
    tell([Do("schedule", value=name), *arrivals, Do("weigh", TCP, "A", 0), Do("weigh", TCP, "B", 0), *[Talk(flow(TCP, sport), "S") for sport in range(40010, 40013)], *arrivals])


#: each is about one thing that needs a look before or after the scheduler's answer
PARTICULAR: dict[str, list[Any]] = {
    "upper threshold": [Do("limit", TCP, "A", 2), Do("limit", TCP, "B", 3), *[Talk(flow(TCP, sport), "S") for sport in range(40000, 40008)]],
    "local server": [Do("add", TCP, LOCAL), *[Talk(flow(TCP, sport), "S") for sport in range(40000, 40006)]],
    "loopback client": [*[Talk(flow(TCP, sport), "S") for sport in range(40000, 40003)], Talk(flow(TCP, 40000, "127.0.0.9"), "S"), Talk(flow(TCP, 40000, "127.0.0.9"))],
    "client that is a service": [
        *[Talk(flow(port, sport), "S") for port, sport in ((TCP, 40000), (TCP, 40001), (DIRECT, 40002), (DIRECT, 40003))], Talk(flow(DIRECT, TCP, "192.0.2.1"), "S"),
        Talk(flow(TCP, 40004), "S"),
    ],
    "reply that looks like an opening": [
        Talk(flow(TCP, DIRECT, "192.0.2.1"), "S"), Talk(flow(TCP, DIRECT, "192.0.2.1"), "S", server="own", hook=Hook.LOCAL_IN), Talk(flow(DIRECT, 40000), "S"),
    ],
    "method changed": [
        *[Talk(flow(TCP, sport), "S") for sport in range(40000, 40004)], Do("forward", TCP, "A", "direct"), Talk(flow(TCP, 40000)), Talk(flow(TCP, 40001)),
        *[Talk(flow(TCP, sport), "S") for sport in range(40008, 40012)],
    ],
    "server deleted and back": [
        *[Talk(flow(TCP, sport), "S") for sport in range(40000, 40004)], Do("delete", TCP, "A"), Talk(flow(TCP, 40004), "S"), Do("add", TCP, "A"),
        *[Talk(flow(TCP, sport), "S") for sport in range(40005, 40010)],
    ],
    "conntrack": [*[Talk(flow(TCP, sport), "S") for sport in range(40000, 40003)], Do("sysctl", value=("conntrack", 1)), Talk(flow(TCP, 40004), "S"), Talk(flow(UDP, 40004))],
    "too big, too old": [*[Talk(flow(TCP, sport), "S") for sport in range(40000, 40003)], Talk(flow(TCP, 40004), "S", size=1461), Talk(flow(TCP, 40005), "S", ttl=1)],
    "other version": [Talk(flow(SIX, sport), "S") for sport in range(40000, 40006)],
    "persistence": [
        *[Talk(flow(PERSISTENT, sport, client), "S") for sport in range(40000, 40003) for client in ("203.0.113.5", "203.0.113.6", "127.0.0.9")], Wait(1000),
        *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40003, 40006)], Talk(flow(PERSISTENT, 40003), "A"), Talk(flow(PERSISTENT, 40003), "FA"),
        Wait(20000), Talk(flow(PERSISTENT, 40007), "S"), Wait(100000), Talk(flow(PERSISTENT, 40008), "S"), Talk(flow(PERSISTENT, 40008), "R"), Wait(200000),
    ],
    "a network's template": [
        Do("persist", PERSISTENT, value={"netmask": "255.255.255.0"}), *[Talk(flow(PERSISTENT, sport, client), "S") for sport in (40000, 40001) for client in ("203.0.113.5", "203.0.113.6")],
        Do("persist", PERSISTENT, value={"netmask": "255.255.255.255"}), *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40003, 40006)],
    ],
    "templates of servers that stop": [
        *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40000, 40003)], Do("weigh", PERSISTENT, "A", 0), Do("weigh", PERSISTENT, "B", 0), Talk(flow(PERSISTENT, 40003), "S"),
        Do("sysctl", value=("expire_quiescent_template", 1)), Talk(flow(PERSISTENT, 40004), "S"), Do("weigh", PERSISTENT, "B", 1), *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40005, 40008)],
        Do("delete", PERSISTENT, "B"), Talk(flow(PERSISTENT, 40009), "S"), Do("add", PERSISTENT, "B"), *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40010, 40012)],
    ],
    "persistence and thresholds": [
        Do("limit", PERSISTENT, "A", 2), Do("limit", PERSISTENT, "B", 2), *[Talk(flow(PERSISTENT, sport, client), "S") for sport in range(40000, 40004) for client in ("203.0.113.5", "203.0.113.6")],
    ],
    "persistence that begins and ends": [
        *[Talk(flow(TCP, sport), "S") for sport in range(40000, 40003)], Do("persist", TCP, value={"persistent": 20}), *[Talk(flow(TCP, sport), "S") for sport in range(40003, 40006)],
        Do("persist", TCP, value={"persistent": None}), *[Talk(flow(TCP, sport), "S") for sport in range(40006, 40009)], Do("persist", TCP, value={"persistent": 300}),
        *[Talk(flow(TCP, sport), "S") for sport in range(40009, 40012)], Wait(30000), Talk(flow(TCP, 40000), "S"),
    ],
    "too big, too old, with a template": [
        *[Talk(flow(PERSISTENT, sport), "S") for sport in range(40000, 40003)], Talk(flow(PERSISTENT, 40004), "S", size=1461), Talk(flow(PERSISTENT, 40005), "S", ttl=1),
        Talk(flow(PERSISTENT, 0), "S"), Talk(flow(PERSISTENT, 20), "S"), Talk(flow(PERSISTENT, PERSISTENT, "192.0.2.1"), "S"),
    ],
    "datagrams": [Talk(flow(UDP, sport)) for sport in range(40000, 40006)],
}  # fmt: skip


@pytest.mark.parametrize("name", PARTICULAR)
def test_what_needs_care(name: str) -> None:
    tell(PARTICULAR[name])


@pytest.mark.parametrize("client", ["203.0.113.5", "192.0.2.77"])  # far from the virtual addresses, and near them
def test_openings_take_the_quick_road(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the streams would prove nothing: once there is a table, and each server has had a connection, no SYN goes the layered way."""
    twins = Twins([TCP])
    layered = []
    monkeypatch.setattr(twins.quick.fast, "layered", lambda *args: layered.append(args) or run_hook(*args))
    monkeypatch.setattr(opening, "open_with_care", lambda *args, careful=opening.open_with_care: layered.append(args) or careful(*args))
    for sport in range(40000, 40009):
        twins.step(Talk(flow(TCP, sport, client), "S"))
    assert len(layered) == 3
    twins.are_alike()


def test_a_client_with_a_template_takes_the_quick_road(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins([PERSISTENT])
    twins.step(Do("persist", PERSISTENT, value={"netmask": "255.255.255.0"}))
    layered = []
    monkeypatch.setattr(twins.quick.fast, "layered", lambda *args: layered.append(args) or run_hook(*args))
    monkeypatch.setattr(opening, "open_with_care", lambda *args, careful=opening.open_with_care: layered.append(args) or careful(*args))
    for sport in range(40000, 40009):
        for client in ("203.0.113.5", "203.0.113.6"):
            twins.step(Talk(flow(PERSISTENT, sport, client), "S"))
    assert len(layered) == 2  # before there is a table, and before its server has had a connection
    assert [cp.n_control for cp in twins.quick.conns() if cp.is_template] == [18]
    twins.are_alike()
