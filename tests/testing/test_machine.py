"""The machine over a whole IPVS finds nothing to complain about, and its laws do complain when they should."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import settings

from ipvs_model import IPVS, Packet
from ipvs_model.testing.laws import LAWS, LawBroken
from ipvs_model.testing.machine import BUDGET, IPVSMachine
from ipvs_model.testing.snapshots import Step, look
from ipvs_model.testing.strategies import Wait


class ModelTest(IPVSMachine.TestCase):
    """A sample of the whole budget."""

    settings = settings(BUDGET, max_examples=12, stateful_step_count=30, derandomize=True)


class Web(IPVSMachine):
    """What a user writes to test one kind of service."""

    SCHEDULERS = ("wlc",)

    def make(self) -> IPVS:
        ipvs = super().make()
        ipvs.sysctl_write("expire_nodest_conn", 1)
        return ipvs


class WebTest(Web.TestCase):
    settings = settings(BUDGET, max_examples=5, stateful_step_count=20, derandomize=True)


def machine() -> IPVSMachine:
    made = IPVSMachine()
    made.begins(service="-t 192.0.2.1:80 -s rr", other="-t 192.0.2.1:80 -s rr", dests=["-m -w 1"], settings=[])
    return made


def test_a_program_can_be_run_by_hand():
    state = machine()
    flow = state.connects(client=(0, 40000), name="-t 192.0.2.1:80", port=80, protocol="tcp")
    assert [cp.state_name for cp in state.ipvs.conns()] == ["ESTABLISHED"]
    state.ends(flow=flow, side="client", at_once=False)
    state.goes_on(flow=flow, words=2)
    assert [cp.state_name for cp in state.ipvs.conns()] == ["TIME_WAIT"]
    state.waits(wait=Wait(0, deadline=True))
    state.teardown()
    assert not state.ipvs.conns()


def test_every_law_has_a_sentence():
    for law in LAWS:
        assert law().sentence.endswith(".")


def test_a_leak_is_told():
    state = machine()
    state.ipvs.services[0].destinations[0].hold()
    with pytest.raises(AssertionError, match="has refcnt 2"):
        state.teardown()


def step(state: IPVSMachine, packet: Packet) -> Step:
    """What the machine would show its laws."""
    before = look(state.ipvs)
    outcome = state.ipvs.receive(packet)
    return Step("packet", repr(packet), state.ipvs, before, look(state.ipvs), packet, outcome)


def broken(found: Step, law: str) -> str:
    """What a law says to a step."""
    with pytest.raises(LawBroken) as caught:
        next(kind for kind in LAWS if kind.__name__ == law)().check(found)
    return str(caught.value)


CLIENT, VIP = "203.0.113.7:40000", "192.0.2.1:80"


def test_a_law_says_what_it_wants():
    state = machine()
    found = step(state, Packet.tcp(CLIENT, VIP, "S"))
    (cp,) = found.after.conns
    wrong = evolve(found, after=evolve(found.after, conns={cp: evolve(found.after.conns[cp], expires=found.after.now + 1)}))
    text = broken(wrong, "PacketsRearmByTheirState")
    assert "203.0.113.7:40000 -> 192.0.2.1:80 -> 10.1.0.11:80 SYN_RECV has 1 jiffies left, wants 60 s" in text
    assert "law: A packet gives its connection the whole period" in text
    assert "step: Packet.tcp(" in text


def test_counters_that_fall_are_told():
    state = machine()
    found = step(state, Packet.tcp(CLIENT, VIP, "S"))
    assert "the total counted" in broken(evolve(found, before=found.after, after=evolve(found.after, stats=(0, 0, 0, 0, 0))), "StatisticsNeverRunBackwards")


def test_a_connection_counted_wrongly_is_told():
    state = machine()
    found = step(state, Packet.tcp(CLIENT, VIP, "S"))
    (cp,) = found.after.conns
    seen = found.after.conns[cp]
    wrong = evolve(found, after=evolve(found.after, conns={cp: evolve(seen, state="CLOSE")}))
    assert "counts as active" in broken(wrong, "OnlyItsStateMakesItActive")
