"""Whole TCP exchanges, packet by packet: NAT, direct routing, firewall marks, persistent port zero (worked examples of the datapath specification)."""

import pytest
from tests.lab import VIP

from ipvs_model.flags import PKT_NO_ROUTE, PKT_NODEFRAG, PKT_NOT_TO_HOST, PKT_PROPERTY, Hook
from ipvs_model.packet import Packet

SYN = "450000280001400040063cc8cb007105c00002019c400050000003e8000000005002ffff11630000"
SYN_SENT = "45000028000140003f06f5bdcb0071050a01000b9c401f90000003e8000000005002ffffaa180000"
REPLY_SENT = "45000028000140003f063dc8c0000201cb00710500509c4000001388000003e95012fffffdc90000"


def test_nat_exchange_packet_by_packet(lab):
    lab.service("rr", "A")
    said = lab.client("S", seq=1000).goes_to("A", 8080).ttl(63).state("SYN_RECV", 60).in_pkts(1).counts("A", 1, 0).totals(1, 1, 0, 40, 0)
    assert said.packet.raw.hex() == SYN
    said.bytes(SYN_SENT)
    said = lab.server("A", "SA", seq=5000, ack=1001).leaves_from(VIP, 80).state("SYN_RECV", 60).in_pkts(1).counts("A", 1, 0).totals(1, 1, 1, 40, 40)
    said.bytes(REPLY_SENT)
    lab.client("A", seq=1001, ack=5001).goes_to("A", 8080).state("ESTABLISHED", 900).in_pkts(2).totals(1, 2, 1, 80, 40)
    lab.client("PA", payload=bytes(18)).goes_to("A").state("ESTABLISHED", 900).in_pkts(3).totals(1, 3, 1, 138, 40)
    lab.server("A", "PA", payload=bytes(5)).leaves_from(VIP, 80).state("ESTABLISHED", 900).in_pkts(3).totals(1, 3, 2, 138, 85)
    lab.server("A", "FA").leaves_from(VIP).state("FIN_WAIT", 120).counts("A", 0, 1).totals(1, 3, 3, 138, 125)
    lab.client("A").goes_to("A").state("FIN_WAIT", 120).in_pkts(4).totals(1, 4, 3, 178, 125)
    lab.client("FA").goes_to("A").state("TIME_WAIT", 120).in_pkts(5).counts("A", 0, 1).totals(1, 5, 3, 218, 125)
    lab.server("A", "A").leaves_from(VIP).state("TIME_WAIT", 120).in_pkts(5).totals(1, 5, 4, 218, 165)
    lab.stats(lab.svc.stats, 1, 5, 4, 218, 165).stats(lab.dest("A").stats, 1, 5, 4, 218, 165)
    lab.at(119)
    assert lab.table == ["TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.11:8080 TIME_WAIT"]
    lab.at(123).counts("A", 0, 0)
    assert lab.table == []


def test_only_ttl_one_address_one_port_and_checksums_change(lab):
    lab.service("rr", "A")
    said = lab.client("SE", tos=0x28, id=4711, seq=77, window=501, options=b"\x02\x04\x05\xb4", payload=b"x" * 9).goes_to("A", 8080)
    there = said.left
    assert (there.saddr, there.sport, there.tos, there.id, there.df, there.seq) == (said.packet.saddr, 40000, 0x28, 4711, True, 77)
    assert there.l4_bytes[4:16] + there.l4_bytes[18:] == said.packet.l4_bytes[4:16] + said.packet.l4_bytes[18:]


def test_client_that_closes_first(lab):
    lab.service("rr", "A").established("A")
    lab.client("FA").state("CLOSE_WAIT", 60)
    lab.server("A", "A").state("CLOSE_WAIT", 60)
    lab.server("A", "FA").state("TIME_WAIT", 120)
    lab.client("A").state("TIME_WAIT", 120)


def test_references_of_a_plain_connection(lab):
    lab.service("rr", "A")
    cp = lab.client("S").conn
    assert (cp.refcnt, cp.n_control, cp.is_hashed, lab.dest("A").refcnt) == (1, 0, True, 2)
    cp.get()
    assert cp.refcnt == 2
    cp.put()
    assert cp.refcnt == 1
    lab.wait(62)
    assert (cp.refcnt, cp.is_hashed, lab.dest("A").refcnt) == (0, False, 1)


def test_direct_routing_packet_by_packet(lab):
    lab.service("rr", "A", forward="direct")
    said = lab.client("S").goes_to("A").ttl(63).state("SYN_RECV", 60).counts("A", 1, 0).totals(1, 1, 0, 40, 0)
    assert said.left.dst == said.packet.dst
    assert str(said.conn.key()).endswith("10.1.0.11:80")
    lab.client("A").goes_to("A").state("ESTABLISHED", 900).totals(1, 2, 0, 80, 0)
    lab.client("PA", payload=bytes(10)).goes_to("A").state("ESTABLISHED", 900).counts("A", 1, 0).totals(1, 3, 0, 130, 0)
    said = lab.client("FA").goes_to("A").state("FIN_WAIT", 120).counts("A", 0, 1).totals(1, 4, 0, 170, 0)
    assert said.conn.flags & 0x80, "no packet of the server was seen"


def test_tunnel_states_are_those_of_direct_routing(lab):
    lab.service("rr", "A", forward="tunnel")
    lab.client("S").goes_to("A").state("SYN_RECV", 60)
    lab.client("A").goes_to("A").state("ESTABLISHED", 900)
    lab.client("FA").goes_to("A").state("FIN_WAIT", 120).totals(1, 3, 0, 120, 0)


# --- firewall marks ---


def test_mark_service_takes_every_address_and_port_of_its_mark(lab):
    lab.service("rr", "A:0", "B:0", fwmark=7, forward="direct")
    lab.client("S", 40000, vport=80, mark=7).goes_to("B")
    lab.client("S", 40001, vport=443, mark=7).goes_to("A")
    lab.client("S", 40002, vport=80, vip="192.0.2.9", mark=7).goes_to("B")
    lab.client("S", 40003, vport=22).accepted("no service").no_conn()
    lab.totals(3, 3, 0, 120, 0)
    assert sorted(lab.table) == [
        "TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.12:80 SYN_RECV",
        "TCP 203.0.113.5:40001 -> 192.0.2.1:443 -> 10.1.0.11:443 SYN_RECV",
        "TCP 203.0.113.5:40002 -> 192.0.2.9:80 -> 10.1.0.12:80 SYN_RECV",
    ]


def test_mark_service_uses_the_servers_port_or_the_clients(lab):
    lab.service("rr", "A:0", "B:8088", fwmark=7)
    lab.client("S", 40000, vport=80, mark=7).goes_to("B", 8088)
    lab.client("S", 40001, vport=443, mark=7).goes_to("A", 443)
    lab.server("B", "SA", 40000, port=8088).leaves_from(VIP, 80)


def test_persistent_mark_service_ignores_the_servers_port(lab):
    lab.service("rr", "A:0", "B:8088", fwmark=7, persistent=60)
    lab.client("S", 40000, vport=80, mark=7).goes_to("B", 80)
    lab.client("S", 40001, vport=443, mark=7).goes_to("B", 443)
    lab.client("S", 40002, vport=0, mark=7).goes_to("A", 0)
    assert [f"{ct.key()} {ct.timeout // lab.hz} {ct.n_control}" for ct in lab.templates] == [
        "IP 203.0.113.5:0 -> 0.0.0.7:0 -> 10.1.0.12:0 60 2",
        "TCP 203.0.113.5:0 -> 192.0.2.1:0 -> 10.1.0.11:0 60 1",
    ]


# --- persistent port zero ---


def test_persistent_port_zero_service(lab):
    lab.service("rr", "A:0", "B:0", port=0, persistent=300, netmask="255.255.255.0")
    lab.client("S", 40000, vport=80).goes_to("B", 80).totals(1, 1, 0, 40, 0)
    (first,) = lab.templates
    assert (str(first.key()), first.timeout) == ("TCP 203.0.113.0:0 -> 192.0.2.1:0 -> 10.1.0.12:0", 300 * lab.hz)
    lab.wait(10)
    lab.client("S", 40001, vport=443).goes_to("B", 443).totals(2, 2, 0, 80, 0)
    assert first.expires == lab.clock.now + first.timeout, "a new connection restarts the template"
    lab.wait(10)
    lab.client("S", 40002, vport=22, address="203.0.113.77").goes_to("B", 22).totals(3, 3, 0, 120, 0)
    lab.client("S", 40003, vport=80, address="203.0.114.1").goes_to("A", 80).totals(4, 4, 0, 160, 0)
    lab.client("S", 20, vport=20, address="203.0.113.77").accepted("ftp data").totals(4, 4, 0, 160, 0)
    lab.counts("B", 3, 0, 1).counts("A", 1, 0, 1)
    assert [(str(ct.key()), ct.n_control, ct.state_name) for ct in lab.templates] == [
        ("TCP 203.0.113.0:0 -> 192.0.2.1:0 -> 10.1.0.12:0", 3, "NONE"),
        ("TCP 203.0.114.0:0 -> 192.0.2.1:0 -> 10.1.0.11:0", 1, "NONE"),
    ]


def test_template_is_assured_by_an_established_child(lab):
    lab.service("rr", "A:0", "B:0", port=0, persistent=300)
    lab.client("S", vport=80).goes_to("B")
    assert [ct.state_name for ct in lab.templates] == ["NONE"]
    lab.client("A", vport=80).state("ESTABLISHED", 900)
    assert [ct.state_name for ct in lab.templates] == ["ASSURED"]


def test_packets_of_a_known_connection_leave_the_template_alone(lab):
    lab.service("rr", "A", persistent=300)
    lab.client("S")
    expires = lab.templates[0].expires
    lab.wait(5)
    lab.client("A").state("ESTABLISHED", 900)
    assert lab.templates[0].expires == expires


def test_short_persistence_is_prolonged_by_sixty_seconds_for_good(lab):
    lab.service("rr", "A", persistent=2)
    lab.at_jiffy(100).established()
    lab.at_jiffy(700)
    (ct,) = lab.templates
    assert ct.timeout == 60 * lab.hz, "postponed: it controls a connection"
    lab.at_jiffy(1000)
    lab.client("S", 40001)
    assert (ct.expires - lab.clock.now, ct.timeout) == (60 * lab.hz, 60 * lab.hz)


# --- who gets what: services without a usable server ---


@pytest.mark.parametrize("how", ["no servers", "weight 0", "no scheduler", "overloaded"])
def test_syn_to_a_service_without_usable_server_is_refused(lab, how):
    lab.service("none" if how == "no scheduler" else "rr")
    if how != "no servers":
        lab.add("A", weight=0 if how == "weight 0" else 1, u_threshold=1 if how == "overloaded" else 0)
    if how == "overloaded":
        lab.client("S", 50000).goes_to("A")
    before = lab.ns.tot_stats.live()
    lab.client("S").is_refused(3, 3, length=68, ttl=64).dropped("no destination").no_conn()
    lab.stats(lab.ns.tot_stats, *before)


def test_other_ports_of_an_ftp_address_belong_to_the_host(lab):
    lab.service("rr", "A:21", port=21)
    lab.client("S", vport=2000).accepted("other port").silently().no_conn()
    lab.client("S", vport=20).accepted("other port")
    lab.client("S", vport=22).accepted("no service")


def test_persistent_ftp_service_takes_its_data_ports(lab):
    lab.service("rr", "A:21", port=21, persistent=300)
    lab.client("S", 40000, vport=21).goes_to("A", 21)
    lab.client("S", 40001, vport=2000).goes_to("A", 2000)
    lab.client("S", 40002, vport=20).goes_to("A", 20)
    lab.client("S", 40003, vport=22).accepted("no service")
    lab.client("S", 20, vport=21).accepted("ftp data")
    assert [f"{ct.key()} {ct.n_control}" for ct in lab.templates] == ["TCP 203.0.113.5:0 -> 192.0.2.1:0 -> 10.1.0.11:0 3"]


def test_port_zero_service_without_persistence_refuses_and_says_so_in_the_log(lab):
    lab.service("rr", "A:0", port=0)
    lab.client("S", vport=80).is_refused(3, 3).dropped("no destination")
    assert lab.ns.log_lines == [("err", "IPVS: Schedule: port zero only supported in persistent services, check your ipvs configuration")]


@pytest.mark.parametrize("flags", ["A", "FA", "PA", "", "F"])
def test_segment_that_may_not_begin_a_connection_belongs_to_the_host(lab, flags):
    lab.service("rr", "A")
    lab.client(flags).accepted("not a starter").no_conn()
    if flags == "A":
        lab.client(flags).locally_answered().accepted("not a starter")


@pytest.mark.parametrize("flags", ["R", "RA", "SR"])
def test_reset_never_begins_a_connection(lab, flags):
    lab.service("rr", "A").sysctl(sloppy_tcp=1)
    lab.client(flags).accepted("not a starter").no_conn()


@pytest.mark.parametrize(("flags", "state"), [("A", "ESTABLISHED"), ("FA", "CLOSE"), ("PA", "ESTABLISHED"), ("", "CLOSE")])
def test_sloppy_tcp_begins_with_any_segment(lab, flags, state):
    lab.service("rr", "A").sysctl(sloppy_tcp=1)
    lab.client(flags).goes_to("A").state(state).totals(1, 1, 0, 40, 0)


def test_client_port_20_is_never_scheduled(lab):
    lab.service("rr", "A").client("S", 20).accepted("ftp data")
    lab.service("rr", "A:53", port=53, protocol="udp").client(sport=20, payload=b"query").accepted("ftp data")
    lab.service("rr", "A:0", fwmark=7).client("S", 20, mark=7).accepted("ftp data")


def test_short_tcp_header_is_dropped_even_for_ports_without_service(lab):
    lab.service("rr", "A")
    whole = lab.client("S", vport=9).accepted("no service").packet
    cut = whole.raw[:2] + (39).to_bytes(2, "big") + whole.raw[4:39]
    lab.says(Packet.parse(cut, device="cli")).dropped("short header").silently()


def test_packet_from_port_zero_never_finds_its_connection(lab):
    lab.service("rr", "A", "B")
    lab.client("S", 0).goes_to("B")
    lab.client("S", 0).goes_to("A")
    assert lab.table == [
        "TCP 203.0.113.5:0 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV",
        "TCP 203.0.113.5:0 -> 192.0.2.1:80 -> 10.1.0.12:8080 SYN_RECV",
    ]


@pytest.mark.parametrize("method", [5, 6, 7])
def test_method_without_transmitter_counts_and_leaves_the_packet_to_the_host(lab, method):
    lab.service("rr", "A:80", forward=method)
    lab.client("S").accepted("no transmitter").state("SYN_RECV", 60).in_pkts(1).totals(1, 1, 0, 40, 0)
    lab.client("S").accepted("no transmitter").in_pkts(2)


# --- what needs no connection ---


def test_what_is_not_for_ipvs_is_accepted_before_anything_else(lab):
    lab.service("rr", "A")
    lab.client("S", bits=PKT_PROPERTY).accepted("property").no_conn()
    lab.client("S", bits=PKT_NOT_TO_HOST).accepted("not to host").no_conn()
    lab.client("S", bits=PKT_NO_ROUTE).accepted("not to host").no_conn()
    lab.client("S", bits=PKT_NODEFRAG, hook=Hook.LOCAL_OUT).accepted("nodefrag").no_conn()
    lab.client("S", bits=PKT_NOT_TO_HOST, hook=Hook.LOCAL_OUT).goes_to("A")
    lab.totals(1, 1, 0, 40, 0)


@pytest.mark.parametrize("mark_it", [0, 1])
def test_unknown_protocol_is_marked_only_with_ignore_tunneled(lab, mark_it):
    lab.service("rr", "A").sysctl(ignore_tunneled=mark_it)
    said = lab.says(Packet.ip("203.0.113.5", VIP, 47, bytes(20), device="cli")).accepted("protocol")
    assert bool(said.left.bits & PKT_PROPERTY) == bool(mark_it)


def test_without_a_service_of_its_family_a_packet_is_not_even_looked_at(lab):
    lab.service("rr", "A", address="2001:db8:2::1")
    lab.client("S", vip=VIP, address="203.0.113.5").accepted("no hooks")


def test_cache_bypass_sends_unplaced_packets_to_their_own_destination(lab):
    lab.service("rr", fwmark=7).sysctl(cache_bypass=1)
    said = lab.client("S", vip="198.51.100.9", mark=7).verdict("STOLEN", "bypass").ttl(63)
    assert (said.action.next_hop, said.left.dst) == (said.packet.daddr, said.packet.dst)
    said.state("SYN_RECV", 60).in_pkts(1).totals(0, 0, 0, 0, 0)
    assert lab.table == ["TCP 203.0.113.5:40000 -> 198.51.100.9:80 -> 0.0.0.0:0 SYN_RECV"]
    lab.client("A", vip="198.51.100.9", mark=7).verdict("STOLEN", "bypass").state("ESTABLISHED", 900).in_pkts(2).totals(0, 0, 0, 0, 0)
    lab.client("S", 40001, vip="127.0.0.5", mark=7).dropped("no destination")


def test_cache_bypass_is_only_for_mark_services(lab):
    lab.service("rr").sysctl(cache_bypass=1)
    lab.client("S").is_refused(3, 3).dropped("no destination")


def test_one_packet_bypass_leaves_nothing_behind(lab):
    lab.service("rr", fwmark=7, one_packet=True).sysctl(cache_bypass=1)
    lab.client(protocol="udp", vip="198.51.100.9", vport=53, mark=7, payload=b"query").verdict("STOLEN", "bypass").no_conn().totals(0, 0, 0, 0, 0)
