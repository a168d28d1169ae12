"""When a packet carries an entry of connection tracking, and when that entry is confirmed."""

from types import SimpleNamespace

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_DROUTE, IP_VS_CONN_F_MASQ, IPPROTO_TCP, PKT_CT_CONFIRMED, PKT_HAS_CT
from ipvs_model.packet import Packet
from ipvs_model.timers import Clock
from ipvs_model.tools.host_conntrack import Conntrack

CLIENT, VIP, SERVER = "203.0.113.7:40000", "192.0.2.1:80", "10.1.0.11:8080"


def endpoint(text):
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


CP = SimpleNamespace(af=AF_INET, protocol=IPPROTO_TCP, client=endpoint(CLIENT), virt=endpoint(VIP), real=endpoint(SERVER), flags=IP_VS_CONN_F_MASQ)


class Talk:
    """A connection through NAT, packet by packet."""

    def __init__(self):
        self.clock = Clock()
        self.table = Conntrack(self.clock)
        self.cp = CP

    def send(self, packet, *, reply=False, confirm=True):
        flow = self.table.attach(packet)
        if flow is not None and confirm:
            self.table.confirm(flow, self.cp, reply=reply)
        return packet.bits & (PKT_HAS_CT | PKT_CT_CONFIRMED)

    def client(self, flags, seq=1000, ack=0, **more):
        return self.send(Packet.tcp(CLIENT, VIP, flags, seq=seq, ack=ack), **more)

    def server(self, flags, seq=9000, ack=0):
        return self.send(Packet.tcp(SERVER, CLIENT, flags, seq=seq, ack=ack), reply=True)

    def establish(self):
        self.client("S")
        self.server("SA", ack=1001)
        self.client("A", 1001, 9001)


NONE, NEW, KNOWN = 0, PKT_HAS_CT, PKT_HAS_CT | PKT_CT_CONFIRMED


@pytest.fixture
def talk():
    return Talk()


def test_the_first_packet_has_an_unconfirmed_entry_and_later_ones_a_confirmed_one(talk):
    assert [talk.client("S"), talk.server("SA", ack=1001), talk.client("A", 1001, 9001)] == [NEW, KNOWN, KNOWN]
    assert len(talk.table) == 1


def test_an_entry_taken_off_is_never_confirmed(talk):
    assert [talk.client("S", confirm=False), talk.client("S", confirm=False)] == [NEW, NEW]
    assert len(talk.table) == 0


def test_without_nat_the_answer_comes_from_the_virtual_address(talk):
    talk.cp = SimpleNamespace(**{**vars(CP), "flags": IP_VS_CONN_F_DROUTE})
    talk.client("S")
    assert talk.send(Packet.tcp(VIP, CLIENT, "SA")) == KNOWN
    assert talk.server("SA") == NONE


def test_a_connection_of_nobody_is_confirmed_as_it_is(talk):
    talk.cp = None
    talk.client("S")
    assert talk.send(Packet.tcp(VIP, CLIENT, "SA")) == KNOWN


def test_a_server_may_begin(talk):
    assert talk.server("S") == NEW
    assert talk.send(Packet.tcp(CLIENT, VIP, "SA")) == KNOWN


def test_after_both_sides_closed_a_syn_begins_anew(talk):
    talk.establish()
    talk.server("FA", 9001, 1001)
    talk.client("FA", 1001, 9002)
    assert talk.client("S", 500000) == KNOWN  # the last ACK is still missing
    talk.server("A", 9002, 1002)
    assert talk.client("S", 500000) == NEW
    assert talk.client("S", 500000) == KNOWN


def test_half_closed_is_not_closed(talk):
    talk.establish()
    talk.server("FA", 9001, 1001)
    talk.client("A", 1001, 9002)
    assert talk.client("S", 500000) == KNOWN


def test_an_expected_reset_closes(talk):
    talk.establish()
    talk.server("A", 9001, 1001)
    assert talk.client("R", 1001) == KNOWN
    assert talk.client("S", 500000) == NEW


def test_a_reset_out_of_the_window_is_invalid_and_changes_nothing(talk):
    talk.establish()
    assert talk.client("R", 900000) == NONE
    assert talk.client("S", 500000) == KNOWN


def test_the_entry_goes_with_the_entry_of_ipvs(talk):
    talk.establish()
    talk.table.drop(CP)
    assert len(talk.table) == 0
    assert talk.client("S") == NEW
    talk.table.drop(SimpleNamespace(**{**vars(CP), "client": 0}))


def test_entries_expire(talk):
    talk.client("S")
    talk.clock.advance(seconds=119)
    assert talk.client("S") == KNOWN
    talk.clock.advance(seconds=120)
    assert len(talk.table) == 0
    assert talk.client("S") == NEW


def test_a_connection_in_the_middle_is_picked_up_but_no_answer_and_no_reset(talk):
    assert [talk.client(flags) for flags in ("SA", "R", "F")] == [NONE, NONE, NONE]
    assert [talk.client("A"), talk.client("A")] == [NEW, KNOWN]


def test_datagrams(talk):
    packet = lambda: Packet.udp(CLIENT, VIP, b"x")
    assert [talk.send(packet()), talk.send(packet()), talk.send(Packet.udp(SERVER, CLIENT))] == [NEW, KNOWN, KNOWN]
    talk.clock.advance(seconds=119)
    assert talk.send(packet()) == KNOWN
    assert talk.send(Packet.sctp(CLIENT, VIP)) == NEW


def test_what_is_damaged_or_has_no_ports_carries_none(talk):
    syn = Packet.tcp(CLIENT, VIP).raw
    assert talk.send(Packet.parse(syn[:-3] + b"\xff" + syn[-2:])) == NONE
    assert talk.send(Packet.icmp("203.0.113.7", "192.0.2.1")) == NONE
    assert talk.send(Packet.ip("203.0.113.7", "192.0.2.1", 6, bytes(8))) == NONE


def test_two_flows_with_the_same_answer_tuple_are_not_both_kept(talk):
    talk.client("S")
    packet = Packet.tcp(CLIENT, "192.0.2.2:80", "S")
    assert talk.send(packet) == NEW
    assert talk.send(packet) == NEW
    assert repr(talk.table.attach(packet)).startswith("<Flow")
