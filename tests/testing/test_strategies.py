"""What the strategies promise: things that meet, conversations that get somewhere, waits that end where it matters."""

from collections import Counter

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from ipvs_model import IPVS, Packet
from ipvs_model.testing import strategies as draw
from ipvs_model.testing.conversations import COURSES, WORDS, Conversation, Say

STATES = {"tcp": "ESTABLISHED", "udp": "UDP", "sctp": "ESTABLISHED"}


def director(protocol: str) -> IPVS:
    ipvs = IPVS()
    ipvs.ipvsadm(f"-A {draw.OPTION[protocol]} 192.0.2.1:80 -s rr")
    ipvs.ipvsadm(f"-a {draw.OPTION[protocol]} 192.0.2.1:80 -r 10.1.0.11:80 -m")
    return ipvs


def hold(protocol: str, words: list[Say]) -> set[str]:
    """The states that the entry of a conversation goes through."""
    ipvs = director(protocol)
    talk = Conversation(protocol, "203.0.113.7:40000", "192.0.2.1:80", server="10.1.0.11:80")
    states = set()
    for say in words:
        ipvs.receive(talk.packet(say))
        talk.said(say)
        states |= {cp.state_name for cp in ipvs.conns()}
    return states


@pytest.mark.parametrize("protocol", COURSES)
def test_most_conversations_are_established(protocol):
    counts = Counter()

    @settings(max_examples=60, database=None)
    @given(draw.conversations(protocol))
    def talk(words):
        counts[STATES[protocol] in hold(protocol, words)] += 1

    talk()
    assert counts[True] > counts[False]


@pytest.mark.parametrize("state", ["TIME_WAIT", "CLOSE", "CLOSE_WAIT", "FIN_WAIT"])
def test_conversations_go_beyond_established(state):
    words = find(draw.conversations("tcp"), lambda words: state in hold("tcp", words))
    assert len(words) <= 6


@pytest.mark.parametrize("protocol", COURSES)
def test_a_course_leads_from_each_phase_to_another_one(protocol):
    course = COURSES[protocol]
    for side, word, after in course.values():
        assert side in ("client", "server")
        assert word in WORDS[protocol]
        assert after in course


@given(draw.any_packets())
def test_no_packet_raises(packet):
    out = director("tcp").receive(packet)
    assert out.reason.text


@given(draw.packets())
def test_a_packet_prints_as_python(packet):
    assert eval(repr(packet)) == packet


@given(draw.damaged_packets())
def test_a_damaged_packet_prints_as_python(packet):
    again = eval(repr(packet), {"Packet": Packet})
    assert again.raw == packet.raw


@given(draw.commands())
def test_ipvsadm_understands_every_command(command):
    assert director("tcp").ipvsadm(command).status in (0, 255)  # 2 would be: not understood


@given(draw.services())
def test_a_service_can_be_added_and_is_called_by_its_identity(service):
    ipvs = IPVS()
    assert ipvs.ipvsadm(f"-A {service}").status == 0
    assert ipvs.ipvsadm(f"-D {draw.identity(service)}").status == 0


@given(draw.sysctls())
def test_a_sysctl_takes_its_value(setting):
    name, value = setting
    ipvs = IPVS()
    ipvs.sysctl_write(name, value)
    assert ipvs.sysctl_read(name) == str(value)


@given(draw.waits())
def test_a_wait_never_ends_in_the_past(wait):
    ipvs = director("tcp")
    ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"))
    assert wait.until(ipvs.clock) >= ipvs.clock.now


@pytest.mark.parametrize(("by", "left"), [(-1, 1), (0, 0), (1, 0)])
def test_waits_end_just_before_at_and_after_the_deadline(by, left):
    wait = find(draw.waits(), lambda wait: wait.deadline and wait.jiffies == by)
    ipvs = director("udp")
    ipvs.sysctl_write("run_estimation", 0)
    ipvs.receive(Packet.udp("203.0.113.7:40000", "192.0.2.1:80"))
    ipvs.clock.advance_to(wait.until(ipvs.clock))
    assert len(ipvs.conns()) == left


@given(st.data())
def test_addresses_meet(data):
    one, other = (data.draw(draw.clients()) for _ in range(2))
    assert one.count(":") == other.count(":") == 1
