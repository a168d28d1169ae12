"""ICMP errors on both ways: about replies, about requests, about tunnel packets; what the director says itself (worked examples of the datapath specification)."""

import pytest
from tests.host import Host
from tests.lab import CLIENT, CLIENT6, VIP, VIP6, Lab

from ipvs_model.flags import Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.build import ip_packet

ROUTER = "198.51.100.9"
TO_SERVER = (
    "4500003800070000fa01d47fc6336409c0000201030447ce00000514450005a0000140003c063b50c0000201cb00710500509c4000001389",
    "4500003800070000f9018d75c63364090a01000b0304288e00000514450005a0000140003c06f3450a01000bcb0071051f909c4000001389",
)
TO_CLIENT = (
    "4500003d000140004001f4ad0a01000bcb0071050303432d0000000045000021000140003f11f5b9cb0071050a01000b138814e9000d41697175657279",
    "4500003d000140003f013db8c0000201cb007105030357e10000000045000021000140003f113dc4cb007105c000020113880035000d41697175657279",
)
V6_TO_SERVER = (
    "6000000000383a4020010db800090000000000000000000920010db800020000000000000000000101032ba30000000060000000058c064020010db800020000000000000000000120010db8ffff0000000000000000000500509c4000001389",
    "6000000000383a3f20010db800090000000000000000000920010db800010000000000000000001101030c450000000060000000058c064020010db800010000000000000000001120010db8ffff000000000000000000051f909c4000001389",
)


def packet(text: str, device: str = "cli") -> Packet:
    return Packet.parse(bytes.fromhex(text), device=device)


def about_reply(
    kind: int = 3, code: int = 1, *, sport: int = 40000, dst: str = VIP, quoted: bytes = b"", device: str = "cli", rest: bytes = bytes(4)
) -> Packet:
    """An error of a router about VIP:80 → client."""
    inner = quoted or Packet.tcp((VIP, 80), (CLIENT, sport), "A").raw[:28]
    return Packet.icmp(ROUTER, dst, kind, code, rest, inner, device=device)


def about_request(server: str = "10.1.0.11", port: int = 8080, *, src: str | None = None, sport: int = 40000, kind: int = 3, code: int = 3) -> Packet:
    """An error of a server, or of a router before it, about client → server."""
    inner = Packet.tcp((CLIENT, sport), (server, port), "A").raw[:28]
    return Packet.icmp(src or server, CLIENT, kind, code, bytes(4), inner, ttl=63, device="rs")


def test_error_about_a_translated_reply_goes_to_the_server(lab):
    lab.service("rr", "A").established()
    lab.totals(1, 2, 1, 80, 40)
    cp = lab.conn()
    before = (cp.state, cp.expires, cp.in_pkts, cp.timeout)
    lab.wait(5)
    said = lab.says(packet(TO_SERVER[0]))
    said.verdict("STOLEN", "icmp forwarded").bytes(TO_SERVER[1]).ttl(249)
    assert said.action.next_hop == lab.dest("A").addr
    lab.totals(1, 3, 1, 136, 40)
    assert (cp.state, cp.expires, cp.in_pkts, cp.timeout) == before


@pytest.mark.parametrize(("kind", "code"), [(3, 1), (3, 3), (4, 0), (11, 0), (11, 1)])
def test_errors_that_are_carried_to_the_server(lab, kind, code):
    lab.service("rr", "A").established()
    assert lab.says(about_reply(kind, code)).verdict("STOLEN", "icmp forwarded").left.l4_bytes[:2] == bytes((kind, code))


@pytest.mark.parametrize(("kind", "code"), [(5, 0), (12, 0), (8, 0), (0, 0), (13, 0)])
def test_other_messages_belong_to_the_host(lab, kind, code):
    lab.service("rr", "A").established()
    lab.says(about_reply(kind, code)).accepted("protocol")
    lab.totals(1, 2, 1, 80, 40)


def test_echo_to_the_virtual_address_is_answered_by_the_host(lab):
    lab.service("rr", "A")
    said = lab.says(Packet.icmp(CLIENT, VIP, 8, 0, bytes(4), b"ping", device="cli")).accepted("protocol").locally_answered()
    assert said.packet.l4_bytes[0] == 0


def test_error_for_a_direct_connection_is_sent_on_unchanged_and_counted(lab):
    lab.service("rr", "A", forward="direct").established()
    said = lab.says(about_reply()).goes_to("A").ttl(63)
    assert said.left.raw[12:] == said.packet.raw[12:]
    assert (lab.conn().in_pkts, lab.ns.tot_stats.inpkts) == (3, 3)


def test_error_for_a_tunnel_connection_is_encapsulated(lab):
    lab.service("rr", "A", forward="tunnel").established()
    said = lab.says(about_reply()).goes_to("A")
    assert (said.left.proto, said.left.length) == (4, said.packet.length + 20)


def test_error_addressed_to_the_server_itself_is_handled_on_its_way(lab):
    lab.service("rr", "A").established()
    error = about_reply(dst="10.1.0.11", device="cli")
    said = lab.says(error, Hook.FORWARD).verdict("STOLEN", "icmp forwarded").ttl(63)
    assert said.left.daddr == lab.dest("A").addr and said.left.l4_bytes[8 + 12 : 8 + 16] == lab.dest("A").addr.to_bytes(4, "big")
    lab.totals(1, 3, 1, 136, 40)


def test_error_of_unknown_connection_belongs_to_the_host(lab):
    lab.service("rr", "A").established()
    lab.says(about_reply(sport=9)).accepted("icmp unrelated")


def test_error_with_wrong_checksum_is_dropped_for_nat_only(lab):
    wrong = bytearray(about_reply().raw)
    wrong[22] ^= 1
    lab.service("rr", "A").established()
    lab.says(Packet.parse(bytes(wrong), device="cli")).dropped("checksum")
    lab.totals(1, 2, 1, 80, 40)
    lab.edit("A", forward="direct")
    lab.client("S", 40001)
    inner = Packet.tcp((VIP, 80), (CLIENT, 40001), "A").raw[:28]
    wrong = bytearray(about_reply(quoted=inner).raw)
    wrong[22] ^= 1
    lab.says(Packet.parse(bytes(wrong), device="cli")).goes_to("A")


def test_cut_icmp_header_is_dropped(lab):
    lab.service("rr", "A")
    lab.says(Packet.ip(ROUTER, VIP, 1, bytes((3, 1, 0, 0, 0, 0, 0)), device="cli")).dropped("short header")


@pytest.mark.parametrize(
    "inner",
    [
        Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[:19],
        b"\x55" + Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[1:28],
        b"\x44" + Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[1:28],
        Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[:6] + b"\x00\x01" + Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[8:28],
        Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw[:22],
        Packet.ip(VIP, CLIENT, 99, bytes(8)).raw,
    ],
    ids=["cut header", "version 5", "header of 16 bytes", "later fragment", "no ports", "unknown protocol"],
)
def test_error_that_quotes_something_unusable_belongs_to_the_host(lab, inner):
    lab.service("rr", "A").established()
    lab.says(about_reply(quoted=inner)).accepted("icmp unrelated")


# --- from the server's side ---


def test_port_unreachable_of_a_server_comes_from_the_virtual_address(lab):
    lab.service("rr", "A:5353", protocol="udp", port=53)
    lab.at_jiffy(100)
    lab.client(sport=5000, payload=b"query").totals(1, 1, 0, 33, 0)
    lab.at_jiffy(353)
    host_saw = packet(TO_CLIENT[0], "rs")
    said = lab.says(Packet.parse(ip_packet(2, 1, host_saw.saddr, host_saw.daddr, host_saw.l4_bytes, ttl=63, ident=1, df=True), device="rs"), Hook.FORWARD)
    said.verdict("ACCEPT", "icmp translated").bytes(TO_CLIENT[1]).totals(1, 1, 1, 33, 61)
    assert "UDP             298" in lab.ipvs.proc("ip_vs_conn"), "the timer still runs from the query"


def test_error_for_another_client_stays_the_servers(lab):
    lab.service("rr", "A").established()
    lab.says(about_request(sport=40001), Hook.FORWARD).accepted("icmp unrelated")


def test_error_of_a_router_before_the_server_comes_from_the_virtual_address_too(lab):
    lab.service("rr", "A").established()
    said = lab.says(about_request(src="10.1.0.99", kind=11, code=0), Hook.FORWARD).verdict("ACCEPT", "icmp translated")
    assert said.left.saddr == lab.svc.addr


def test_error_of_the_server_with_wrong_checksum_is_dropped(lab):
    lab.service("rr", "A").established()
    wrong = bytearray(about_request().raw)
    wrong[22] ^= 1
    lab.says(Packet.parse(bytes(wrong), device="rs"), Hook.FORWARD).dropped("checksum")


# --- scheduling by ICMP ---


def test_error_may_make_a_connection_with_schedule_icmp(lab):
    lab.service("rr", "A").sysctl(schedule_icmp=1)
    said = lab.says(about_reply(), client=Packet.tcp((CLIENT, 40000), (VIP, 80)).src).verdict("STOLEN", "icmp forwarded")
    said.state("NONE", 3).in_pkts(0).totals(1, 1, 0, 56, 0).counts("A", 0, 1)


def test_error_that_cannot_be_placed_is_dropped_in_silence(lab):
    lab.service("rr").sysctl(schedule_icmp=1)
    lab.says(about_reply()).dropped("no destination icmp").silently()


def test_without_schedule_icmp_no_error_makes_a_connection(lab):
    lab.service("rr", "A")
    lab.says(about_reply()).accepted("icmp unrelated")
    assert lab.table == []


# --- IPv6 ---


def test_icmpv6_error_goes_to_the_server(lab):
    lab.service("rr", "A", address=VIP6)
    lab.client("S").goes_to("A", 8080)
    said = lab.says(packet(V6_TO_SERVER[0])).verdict("STOLEN", "icmp forwarded").bytes(V6_TO_SERVER[1])
    assert said.action.next_hop == lab.dest("A").addr


def test_icmpv6_error_of_a_server_comes_from_the_virtual_address(lab):
    lab.service("rr", "A", address=VIP6)
    lab.client("S").goes_to("A", 8080)
    inner = Packet.tcp((CLIENT6, 40000), ("2001:db8:1::11", 8080), "S").raw
    said = lab.says(Packet.icmp("2001:db8:1::11", CLIENT6, 1, 4, bytes(4), inner, ttl=63, device="rs"), Hook.FORWARD)
    said.verdict("ACCEPT", "icmp translated")
    assert said.left.saddr == lab.svc.addr


@pytest.mark.parametrize("kind", [128, 129, 135])
def test_informational_icmpv6_belongs_to_the_host(lab, kind):
    lab.service("rr", "A", address=VIP6)
    lab.says(Packet.icmp(CLIENT6, VIP6, kind, device="cli")).accepted("protocol")


def test_fragmented_icmpv6_error_is_dropped(lab):
    lab.service("rr", "A", address=VIP6)
    inner = Packet.tcp((VIP6, 80), (CLIENT6, 40000), "A").raw
    message = Packet.icmp(CLIENT6, VIP6, 1, 3, bytes(4), inner).l4_bytes
    lab.says(Packet.ip(CLIENT6, VIP6, 44, bytes((58, 0, 0, 1, 0, 0, 0, 7)) + message, device="cli")).dropped("short header")


# --- errors about tunnel packets ---


def tunnel_lab(**options):
    """A tunnel service with one connection that has sent a 1480-byte packet, and that packet as the router saw it."""
    lab = Lab(routing=Host(VIP))
    lab.service("rr", "A", forward="tunnel", **options)
    lab.client("S")
    return lab, lab.client("A", payload=bytes(1420)).goes_to("A").left


def told(lab: Lab, outer: Packet, kind: int = 3, code: int = 4, mtu: int = 1400, keep: int = 128, overhead: int = 20):
    """A router between director and server complains about a tunnel packet."""
    return lab.says(
        Packet.icmp("10.1.0.99", "10.1.0.1", kind, code, mtu.to_bytes(4, "big"), outer.raw[: overhead + keep], device="rs"), client=lab.conn().client
    )


def refused_with(said, kind: int, code: int, info: int, length: int) -> None:
    (error,) = said.errors
    message = error.l4_bytes
    assert (message[0], message[1], int.from_bytes(message[4:8]), error.length) == (kind, code, info, length)


def test_narrow_way_to_a_tunnel_server_is_told_to_the_client():
    lab, outer = tunnel_lab()
    out = lab.ns.tot_stats.live()
    said = told(lab, outer).stolen("tunnel error")
    refused_with(said, 3, 4, 1480, 156)
    live = lab.ns.tot_stats.live()
    assert (live[2] - out[2], live[4] - out[4]) == (2, 156 + 128)
    lab.client("A", payload=bytes(1440)).stolen("mtu").is_refused(3, 4, info=1380)
    refused_with(told(lab, outer, mtu=1300).stolen("tunnel error"), 3, 4, 1280, 156)


def test_narrow_way_is_kept_from_a_client_that_did_not_forbid_fragments():
    lab = Lab(routing=Host(VIP))
    lab.service("rr", "A", forward="tunnel")
    lab.client("S")
    outer = lab.client("A", payload=bytes(1420), df=False).goes_to("A").left
    before = lab.ns.tot_stats.live()
    told(lab, outer).stolen("tunnel error").silently()
    lab.stats(lab.ns.tot_stats, *before)


def test_other_errors_about_tunnel_packets_are_passed_on_as_they_are():
    lab, outer = tunnel_lab()
    refused_with(told(lab, outer, 11, 0, 0x01020304).stolen("tunnel error"), 11, 0, 0x01020304, 156)


@pytest.mark.parametrize(
    ("options", "overhead", "mtu"),
    [
        ({"tun_type": "gue", "tun_port": 6080}, 32, 1468),
        ({"tun_type": "gue", "tun_port": 6080, "tun_flags": 1}, 32, 1468),
        ({"tun_type": "gre"}, 24, 1476),
        ({"tun_type": "gre", "tun_flags": 1}, 28, 1472),
    ],
    ids=["gue", "gue csum", "gre", "gre csum"],
)
def test_narrow_way_behind_other_tunnels(options, overhead, mtu):
    lab, outer = tunnel_lab(**options)
    refused_with(told(lab, outer, overhead=overhead).stolen("tunnel error"), 3, 4, mtu, 156)


def test_error_about_a_tunnel_of_no_server_of_ours_is_not_ours():
    lab, outer = tunnel_lab()
    lab.edit("A", tun_port=1)
    told(lab, outer).accepted("icmp unrelated")


def test_tunnel_error_with_wrong_checksum_is_dropped():
    lab, outer = tunnel_lab()
    error = bytearray(Packet.icmp("10.1.0.99", "10.1.0.1", 3, 4, bytes((0, 0, 5, 0)), outer.raw[:148]).raw)
    error[22] ^= 1
    lab.says(Packet.parse(bytes(error), device="rs")).dropped("checksum")


def test_later_fragment_of_a_tunnel_packet_is_not_ours():
    lab, outer = tunnel_lab()
    quoted = outer.raw[:6] + b"\x00\x20" + outer.raw[8:148]
    lab.says(Packet.icmp("10.1.0.99", "10.1.0.1", 3, 4, bytes(4), quoted, device="rs")).accepted("icmp unrelated")


def test_tunnel_error_that_does_not_reach_the_host_itself_is_not_ours():
    lab, outer = tunnel_lab()
    lab.says(Packet.icmp("10.1.0.99", "10.1.0.1", 3, 4, bytes(4), outer.raw[:148], device="rs"), Hook.FORWARD).accepted("icmp unrelated")


# --- errors of the director pass its own hooks ---


def test_own_error_counts_as_output_of_a_direct_connection(lab):
    lab.service("rr", "A", forward="direct")
    lab.client("S", ttl=1).stolen("ttl").is_refused(11, 0, length=68, ttl=1).state("SYN_RECV", 60).totals(1, 1, 1, 40, 68)


def test_own_error_does_not_count_as_output_of_a_nat_connection(lab):
    lab.service("rr", "A")
    lab.client("S", ttl=1).stolen("ttl").is_refused(11, 0, length=68, ttl=1).state("SYN_RECV", 60).totals(1, 1, 0, 40, 0)


# --- replies of servers without a connection ---


@pytest.mark.parametrize(
    ("flags", "refused"), [("SA", True), ("A", True), ("FA", True), ("R", False), ("RA", False)]
)  # fmt: skip
def test_reply_without_connection_is_refused_with_nat_icmp_send(lab, flags, refused):
    lab.service("rr", "A").sysctl(nat_icmp_send=1)
    said = lab.server("A", flags)
    if refused:
        said.dropped("rs unreachable").is_refused(3, 3, source="10.1.0.1")
    else:
        said.leaves_untranslated()
    lab.server("A", flags, port=8081).leaves_untranslated()
    lab.server("10.1.0.77", flags, port=8080).leaves_untranslated()
    lab.sysctl(nat_icmp_send=0).server("A", flags).leaves_untranslated()
