"""When a packet carries an entry of connection tracking, and when that entry is confirmed."""

from types import SimpleNamespace

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_DROUTE, IP_VS_CONN_F_MASQ, IPPROTO_TCP, PKT_CT_CONFIRMED, PKT_HAS_CT
from ipvs_model.packet import Packet
from ipvs_model.packet.rewrite import with_checksum
from ipvs_model.timers import Clock
from ipvs_model.tools.host_conntrack import Conntrack, is_sound
from ipvs_model.tools.host_conntrack_tcp import window_scale

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


def test_after_the_server_closed_first_a_syn_begins_anew(talk):
    talk.establish()
    talk.server("FA", 9001, 1001)
    talk.client("FA", 1001, 9002)
    assert talk.client("S", 500000) == KNOWN  # the last ACK is still missing
    talk.server("A", 9002, 1002)
    assert talk.client("S", 500000) == NEW
    assert talk.client("S", 500000) == KNOWN


def test_after_the_client_closed_first_a_syn_begins_anew_too(talk):
    talk.establish()
    talk.client("FA", 1001, 9001)
    talk.server("FA", 9001, 1002)
    talk.client("A", 1002, 9002)
    assert talk.client("S", 500000) == NEW


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


@pytest.mark.parametrize(("seq", "what"), [(900000, NONE), (500, NONE), (1003, KNOWN)])
def test_any_other_reset_changes_nothing(talk, seq, what):
    """Out of the window, older than what the server acknowledged, or merely not the one that it expects."""
    talk.establish()
    assert talk.client("R", seq) == what
    assert talk.client("S", 500000) == KNOWN


def test_a_reset_before_any_answer_ends_the_entry(talk):
    talk.client("S")
    assert talk.client("R", 1001) == KNOWN
    assert len(talk.table) == 0


WINDOWS = {
    "data": ("A", 1001, 9001, KNOWN),
    "up to the end of the window": ("A", 1001 + 65535, 9001, KNOWN),
    "a little too much": ("A", 1002 + 65535, 9001, KNOWN),
    "far too much": ("A", 1001 + 3 * 65535, 9001, NONE),
    "an acknowledgement of what was never sent": ("A", 1001, 9100, NONE),
    "an old acknowledgement": ("A", 1001, 9001 - 70000, KNOWN),
    "old data": ("A", 1001 - 70000, 9001, KNOWN),
}


@pytest.mark.parametrize(("flags", "seq", "ack", "what"), WINDOWS.values(), ids=WINDOWS)
def test_windows(talk, flags, seq, ack, what):
    talk.establish()
    assert talk.client(flags, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF) == what


def test_windows_are_scaled_if_both_sides_offer_it():
    far = 1001 + 7 * 65535
    for offered, what in ((b"\3\3\7", KNOWN), (b"", NONE)):
        talk = Talk()
        talk.send(Packet.tcp(CLIENT, VIP, "S", options=b"\2\4\5\xb4\1\3\3\7"))
        talk.send(Packet.tcp(SERVER, CLIENT, "SA", seq=9000, ack=1001, options=offered), reply=True)
        talk.client("A", 1001, 9001)
        talk.server("A", 9001, 1001)
        assert talk.client("A", far, 9001) == what


def test_a_syn_sent_again_with_another_number_counts(talk):
    talk.client("S", 1000)
    assert talk.client("S", 5000) == KNOWN
    assert talk.server("SA", 9000, 5001) == KNOWN
    assert talk.client("A", 5001, 9001) == KNOWN


def test_an_acknowledgement_before_any_answer_is_invalid(talk):
    talk.client("S")
    assert talk.client("A", 1001, 9001) == NONE


def test_both_may_begin(talk):
    talk.client("S")
    assert talk.server("S") == KNOWN
    assert talk.client("SA", 1000, 9001) == KNOWN
    assert talk.server("A", 9001, 1001) == KNOWN


def test_no_flags_at_all_are_invalid(talk):
    talk.establish()
    assert talk.client("P", 1001) == NONE


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


def test_unacknowledged_data_shortens_the_life_of_a_connection(talk):
    talk.establish()
    talk.client("A", 1001, 9001)
    flow = next(iter(talk.table.flows.values()))
    assert flow.timeout == 432000
    talk.send(Packet.tcp(CLIENT, VIP, "PA", seq=1001, ack=9001, payload=b"data"))
    assert flow.timeout == 300


def test_a_connection_in_the_middle_is_picked_up_but_no_answer_and_no_reset(talk):
    assert [talk.client(flags) for flags in ("SA", "R", "F")] == [NONE, NONE, NONE]
    assert [talk.client("A"), talk.client("A")] == [NEW, KNOWN]
    assert talk.client("A", 1 << 31, 77) == KNOWN  # its windows are not judged


def test_the_other_side_of_a_connection_picked_up_is_taken_from_where_it_is(talk):
    assert [talk.client("A", 5000, 8000), talk.server("A", 8000, 5000)] == [NEW, KNOWN]
    assert [side.end for side in next(iter(talk.table.flows.values())).tcp.sides] == [5000, 8000]


def test_a_reset_that_is_the_first_answer_leaves_nothing(talk):
    talk.client("S")
    assert talk.send(Packet.tcp(SERVER, CLIENT, "RA", seq=0, ack=1001), reply=True) == KNOWN
    assert len(talk.table) == 0
    assert talk.client("S", 700000) == NEW


@pytest.mark.parametrize("options", [b"\3", b"\2\1", b"\3\3", b"\1\0\3\3\7"])
def test_damaged_options_offer_no_scale(options):
    assert window_scale(options) is None


def test_datagrams(talk):
    def packet():
        return Packet.udp(CLIENT, VIP, b"x")

    assert [talk.send(packet()), talk.send(packet()), talk.send(Packet.udp(SERVER, CLIENT))] == [NEW, KNOWN, KNOWN]
    talk.clock.advance(seconds=119)
    assert talk.send(packet()) == KNOWN
    assert talk.send(Packet.sctp(CLIENT, VIP)) == NEW


def damaged(packet, **bytes_at):
    raw = bytearray(packet.raw)
    for place, value in bytes_at.items():
        raw[packet.l4 + int(place[1:])] = value
    return Packet.parse(with_checksum(bytes(raw), packet.l4, packet.proto, packet.saddr, packet.daddr))


@pytest.mark.parametrize("offset", [0x40, 0x60, 0xF0])
def test_segments_with_an_impossible_header_length_carry_none(talk, offset):
    assert talk.send(damaged(Packet.tcp(CLIENT, VIP), _12=offset)) == NONE
    assert talk.send(damaged(Packet.tcp(CLIENT, VIP), _12=0x50)) == NEW


@pytest.mark.parametrize("length", [0, 7, 10])
def test_datagrams_with_an_impossible_length_carry_none(talk, length):
    assert talk.send(damaged(Packet.udp(CLIENT, VIP, b"x"), _5=length)) == NONE


def test_flags_that_cannot_stand_together_carry_none(talk):
    """Whatever PSH, ECE and CWR are."""
    known = {"S", "SU", "SA", "R", "RA", "FA", "FAU", "A", "AU"}
    letters = "FSRAU"
    for number in range(1 << len(letters)):
        flags = "".join(letter for bit, letter in enumerate(letters) if number >> bit & 1)
        sound = any(set(flags) == set(each) for each in known)
        for more in ("", "P", "EC"):
            assert is_sound(Packet.tcp(CLIENT, VIP, flags + more)) == sound


def test_the_checksum_of_what_this_host_sends_is_not_looked_at(talk):
    raw = bytearray(Packet.udp(CLIENT, VIP, b"x").raw)
    raw[-1] ^= 1
    wrong = Packet.parse(bytes(raw))
    assert talk.table.attach(wrong) is None
    assert talk.table.attach(wrong, made_here=True) is not None
    assert talk.table.attach(Packet.ip("203.0.113.7", "192.0.2.1", 132, bytes(11)), made_here=True) is None


def test_what_is_damaged_or_has_no_ports_carries_none(talk):
    syn = Packet.tcp(CLIENT, VIP).raw
    assert talk.send(Packet.parse(syn[:-3] + b"\xff" + syn[-2:])) == NONE
    assert talk.send(Packet.icmp("203.0.113.7", "192.0.2.1")) == NONE
    assert talk.send(Packet.ip("203.0.113.7", "192.0.2.1", 6, bytes(8))) == NONE
    assert talk.send(Packet.ip("203.0.113.7", "192.0.2.1", 6, syn[20:32])) == NONE


def test_two_entries_with_the_same_tuple_are_not_both_kept(talk):
    talk.client("S")
    packet = Packet.tcp(CLIENT, "192.0.2.2:80", "S")
    flow = talk.table.attach(packet)
    assert not talk.table.confirm(flow, CP)  # the TCP packet is dropped
    assert repr(flow) == f"<Flow {flow.tuples[0]} SS>"
    talk.send(Packet.udp(CLIENT, VIP))
    assert talk.table.confirm(talk.table.attach(Packet.udp(CLIENT, "192.0.2.2:80")), CP)  # a datagram goes on without
