"""Fragments at the hooks: put together in FORWARD and LOCAL_OUT, whole in LOCAL_IN, quoted ones, and the IPv6 packets that nobody can put together."""

import pytest
from tests.lab import CLIENT, CLIENT6, SERVERS, VIP, VIP6, Lab

from ipvs_model.flags import IP_VS_STATE_BACKUP, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment
from ipvs_model.sync.daemon import DaemonUser


def pieces(packet: Packet, mtu: int) -> list[Packet]:
    return fragment(packet, mtu)


@pytest.fixture
def dns() -> Lab:
    lab = Lab()
    lab.service("rr", "A:53", protocol="udp", port=53)
    lab.client(sport=5000, payload=b"query").goes_to("A")
    return lab


def test_reply_in_fragments_is_stolen_until_it_is_whole(dns):
    reply = Packet.udp((SERVERS["A"], 53), (CLIENT, 5000), bytes(1000), ttl=63, df=False, device="rs")
    first, second = pieces(reply, 600)
    dns.says(first, Hook.FORWARD).stolen("fragment").totals(1, 1, 0, 33, 0)
    said = dns.says(second, Hook.FORWARD).leaves_from(VIP, 53).totals(1, 1, 1, 33, 1028)
    assert (said.left.length, said.left.frag_max_size) == (1028, first.length)
    assert [piece.length for piece in pieces(said.left, 1500)] == [first.length, second.length]


def test_order_of_fragments_does_not_matter(dns):
    reply = Packet.udp((SERVERS["A"], 53), (CLIENT, 5000), bytes(1000), ttl=63, df=False, device="rs")
    first, second = pieces(reply, 600)
    dns.says(second, Hook.FORWARD).stolen("fragment")
    assert dns.says(first, Hook.FORWARD).leaves_from(VIP, 53).left.payload == bytes(1000)


def test_fragments_of_strangers_are_put_together_too(dns):
    stranger = Packet.udp(("10.1.0.99", 53), (CLIENT, 5000), bytes(1000), ttl=63, df=False, device="rs")
    first, second = pieces(stranger, 600)
    dns.says(first, Hook.FORWARD).stolen("fragment")
    dns.says(second, Hook.FORWARD).verdict("ACCEPT", "no connection").totals(1, 1, 0, 33, 0)


def test_fragments_of_other_protocols_are_left_alone(dns):
    stranger = Packet.ip("10.1.0.99", CLIENT, 47, bytes(1000), df=False, device="rs")
    for piece in pieces(stranger, 600):
        dns.says(piece, Hook.FORWARD).accepted("protocol")


def test_every_hook_has_a_queue_of_its_own(dns):
    reply = Packet.udp((SERVERS["A"], 53), (CLIENT, 5000), bytes(1000), ttl=63, df=False, device="rs")
    first, second = pieces(reply, 600)
    dns.says(first, Hook.FORWARD).stolen("fragment")
    dns.says(second, Hook.LOCAL_OUT).stolen("fragment")


def test_request_of_a_local_client_in_fragments(dns):
    request = Packet.udp((VIP, 5001), (VIP, 53), bytes(1000), df=False)
    first, second = pieces(request, 600)
    dns.says(first, Hook.LOCAL_OUT).stolen("fragment")
    said = dns.says(second, Hook.LOCAL_OUT).goes_to("A").totals(2, 2, 0, 33 + 1028, 0)
    assert said.left.length == 1028


def test_icmp_error_in_fragments_is_translated_when_it_is_whole(dns):
    inner = Packet.udp((CLIENT, 5000), (SERVERS["A"], 53), bytes(1000)).raw[:1028]
    error = Packet.icmp(SERVERS["A"], CLIENT, 3, 3, bytes(4), inner, ttl=63, df=False, device="rs")
    first, second = pieces(error, 600)
    dns.says(first, Hook.FORWARD).stolen("fragment")
    said = dns.says(second, Hook.FORWARD).verdict("ACCEPT", "icmp translated")
    assert said.left.saddr == dns.svc.addr


def test_whole_datagram_of_a_client_counts_once_and_leaves_in_its_fragments(dns):
    request = Packet.udp((CLIENT, 5000), (VIP, 53), bytes(100), df=False, device="cli")
    whole = Packet.parse(request.raw, device="cli", frag_max_size=76, pieces=(76, 72))
    said = dns.says(whole).goes_to("A").totals(1, 2, 0, 33 + 128, 0)
    assert [(piece.length, piece.ttl) for piece in pieces(said.left, 1500)] == [(76, 63), (72, 63)]


def test_later_ipv6_fragment_finds_nothing_and_starts_nothing(lab):
    lab.service("rr", "A", address=VIP6)
    later = Packet.ip(CLIENT6, VIP6, 44, bytes((6, 0, 0, 8, 0, 0, 0, 7)) + bytes(24), device="cli")
    lab.says(later).accepted("no connection")
    assert lab.table == []


def test_broken_header_chain_is_no_protocol_of_ours(lab):
    lab.service("rr", "A", address=VIP6)
    lab.says(Packet.ip(CLIENT6, VIP6, 0, b"\x06", device="cli")).accepted("protocol")
    lab.says(Packet.ip(CLIENT6, VIP6, 59, device="cli")).accepted("protocol")


def test_extension_headers_are_walked_past(lab):
    lab.service("rr", "A", address=VIP6)
    syn = Packet.tcp((CLIENT6, 40000), (VIP6, 80), "S")
    options = bytes((6, 0, 1, 4, 0, 0, 0, 0))
    said = lab.says(Packet.ip(CLIENT6, VIP6, 60, options + syn.l4_bytes, device="cli"), client=syn.src).verdict("STOLEN", "forwarded").state("SYN_RECV", 60)
    assert said.left.raw[40:48] == options


# --- a backup that only listens ---


def test_backup_only_leaves_requests_and_forwarded_errors_to_the_host_but_translates_replies(lab):
    lab.service("rr", "A").established()
    lab.control.new_daemon(DaemonUser(IP_VS_STATE_BACKUP, "eth0"))
    lab.client("A").goes_to("A")
    lab.sysctl(backup_only=1)
    lab.client("A").accepted("backup only")
    lab.client("S", 40001).accepted("backup only")
    lab.server("A", "A").leaves_from(VIP, 80)
    inner = Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[:28]
    error = Packet.icmp("198.51.100.9", SERVERS["A"], 3, 1, bytes(4), inner, device="cli")
    lab.says(error, Hook.FORWARD).accepted("icmp unrelated")
    lab.control.del_daemon(IP_VS_STATE_BACKUP)
    lab.client("A").goes_to("A")


# --- SCTP ---


def test_sctp_port_reuse_needs_closed(lab):
    lab.service("rr", "A", "B", protocol="sctp")
    lab.client().goes_to("B").state("INIT1", 4)
    lab.client().goes_to("B").state("INIT")
    lab.client(chunks=((6, 0, b""),)).goes_to("B").state("CLOSED", 61)
    lab.client().goes_to("A").state("INIT1", 4)
    assert len(lab.table) == 2
    lab.wait(jiffies=1)
    assert len(lab.table) == 1


@pytest.mark.parametrize(("chunk", "refused"), [(0, True), (6, False)])
def test_sctp_reply_without_connection_with_nat_icmp_send(lab, chunk, refused):
    lab.service("rr", "A", protocol="sctp").sysctl(nat_icmp_send=1)
    said = lab.server("A", chunks=((chunk, 0, bytes(12)),))
    assert (said.action.reason == "rs unreachable") == refused
    assert len(said.errors) == refused
