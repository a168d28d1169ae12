"""Sizes, time to live, missing routes, tunnels: what the transmitters do with a packet (worked examples of the transmitters' specification)."""

import pytest
from tests.host import Host
from tests.lab import VIP, VIP6, Lab

from ipvs_model.events import Transmitted
from ipvs_model.flags import PKT_PROPERTY, PKT_ROUTE_LOCAL, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment

SYN6_SENT = "600000000014063f20010db8ffff0000000000000000000520010db80001000000000000000000119c401f90000003e8000000005002ffff94a10000"


def lab_at(mtu: int = 1500, *local: str, **options) -> Lab:
    return Lab(routing=Host(VIP, VIP6, *local, mtu=mtu, **options))


def sized(lab: Lab, length: int, **more):
    """An ACK of that many bytes, IP header included, on the connection."""
    return lab.client("A", payload=bytes(length - (40 if lab.svc.af == 2 else 60)), **more)


# --- IPv4, tunnel ---

TUNNELS = [
    ({}, 1480),
    ({"tun_type": "gue", "tun_port": 6080}, 1468),
    ({"tun_type": "gue", "tun_port": 6080, "tun_flags": 1}, 1468),
    ({"tun_type": "gue", "tun_port": 6080, "tun_flags": 2}, 1468),
    ({"tun_type": "gre"}, 1476),
    ({"tun_type": "gre", "tun_flags": 1}, 1472),
    ({"tun_flags": 1}, 1480),
]
KINDS = ["ipip", "gue", "gue csum", "gue remcsum", "gre", "gre csum", "ipip with csum"]


def test_tunnel_sizes_one_after_the_other():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel")
    said = lab.client("S").goes_to("A").totals(1, 1, 0, 40, 0)
    assert (said.left.length, said.left.df, said.left.id) == (60, True, 0)
    sized(lab, 1500).stolen("mtu").is_refused(3, 4, info=1480, length=576, ttl=63).totals(1, 2, 1, 1540, 576)
    said = sized(lab, 1480).goes_to("A").totals(1, 3, 1, 3020, 576)
    assert (said.left.length, said.left.df) == (1500, True)
    said = sized(lab, 1500, df=False).goes_to("A")
    assert ([piece.length for piece in fragment(said.left, 1500)], said.left.df) == ([1500, 40], False)


def test_without_pmtu_disc_a_tunnel_fragments():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel").sysctl(pmtu_disc=0)
    lab.client("S")
    said = sized(lab, 1500).goes_to("A").silently()
    assert (said.left.df, [piece.length for piece in fragment(said.left, 1500)]) == (False, [1500, 40])


@pytest.mark.parametrize(("options", "mtu"), TUNNELS, ids=KINDS)
def test_size_that_fits_a_tunnel(options, mtu):
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel", **options)
    lab.client("S")
    assert sized(lab, mtu).goes_to("A").left.length == 1500
    sized(lab, mtu + 1).stolen("mtu").is_refused(3, 4, info=mtu)
    sized(lab, 1500).stolen("mtu").is_refused(3, 4, info=mtu, length=576)


@pytest.mark.parametrize(("mtu", "length", "reason"), [(87, 40, "tunnel mtu"), (88, 68, None), (88, 69, "mtu")])
def test_narrowest_tunnel(mtu, length, reason):
    lab = lab_at(mtu)
    lab.service("rr", "A", forward="tunnel")
    lab.client("S")
    said = sized(lab, length)
    if reason == "mtu":
        said.stolen("mtu").is_refused(3, 4, info=68)
    elif reason:
        said.stolen(reason).silently()
    else:
        said.goes_to("A")


def test_edited_tunnel_acts_on_existing_connections_at_once():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel")
    assert lab.client("S").left.proto == 4
    assert lab.edit("A", tun_type="gre").client("A").goes_to("A").left.proto == 47
    assert lab.edit("A", tun_type="gue", tun_port=6080).client("A").goes_to("A").left.proto == 17


def test_edited_method_acts_on_new_connections_only():
    lab = lab_at()
    lab.service("rr", "A:80")
    lab.client("S").goes_to("A", 80)
    lab.edit("A", forward="tunnel")
    lab.client("A").goes_to("A", 80)
    assert lab.client("S", 40001).goes_to("A").left.proto == 4


@pytest.mark.parametrize(("tos", "outer"), [(0x29, 0x29), (0x03, 0x02), (0x00, 0x00)])
def test_outer_header_takes_dscp_and_ecn_over(tos, outer):
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel")
    said = lab.client("S", tos=tos).goes_to("A")
    assert (said.left.tos, Packet.parse(said.left.l4_bytes).tos) == (outer, tos)
    assert said.left.ttl == Packet.parse(said.left.l4_bytes).ttl == 63


def test_encapsulated_syn_byte_for_byte():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel")
    lab.client("S", tos=0x29).bytes("4529003c000040003f0427880a0100010a01000b45290028000140003f063d9fcb007105c00002019c400050000003e8000000005002ffff11630000")


@pytest.mark.parametrize(
    ("options", "outer", "header"),
    [
        ({"tun_type": "gre"}, "45000040000040003f2f27820a0100010a01000b", "00000800"),
        ({"tun_type": "gre", "tun_flags": 1}, "45000044000040003f2f277e0a0100010a01000b", "8000080076210000"),
    ],
)
def test_gre_headers_byte_for_byte(options, outer, header):
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel", **options)
    lab.client("S")
    raw = lab.client("A", seq=1001, ack=5001).left.raw.hex()
    assert raw.startswith(outer + header)


def test_gue_header_byte_for_byte():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel", tun_type="gue", tun_port=6080)
    raw = lab.client("S").left.raw.hex()
    assert raw.startswith("45000048000040003f1127980a0100010a01000b")
    assert raw[44:56] + raw[56:64] == "17c000340000" + "00040000"
    assert raw[40:44] == lab.client("A").left.raw.hex()[40:44], "the source port belongs to the flow"


# --- IPv4, NAT and direct ---


@pytest.mark.parametrize("method", ["masq", "direct"])
def test_packet_that_does_not_fit_the_device(method):
    lab = lab_at(1400)
    lab.service("rr", "A", forward=method)
    lab.client("S")
    out = lab.ns.tot_stats.outpkts
    sized(lab, 1420).stolen("mtu").is_refused(3, 4, info=1400, ttl=63)
    assert lab.ns.tot_stats.outpkts - out == (0 if method == "masq" else 1)
    said = sized(lab, 1420, df=False).goes_to("A")
    assert [piece.length for piece in fragment(said.left, 1400)] == [1396, 44]
    sized(lab, 1400).goes_to("A")


def test_oversize_error_to_a_nat_server_is_fragmented_not_refused():
    lab = lab_at(600)
    lab.service("rr", "A").established()
    inner = Packet.tcp((VIP, 80), ("203.0.113.5", 40000), "A", payload=bytes(2000)).raw[:1000]
    said = lab.says(Packet.icmp("198.51.100.9", VIP, 3, 1, bytes(4), inner, device="cli")).verdict("STOLEN", "icmp forwarded").silently()
    pieces = fragment(said.left, 600)
    assert ([piece.length for piece in pieces], [piece.df for piece in pieces]) == ([596, 452], [False, False])


def test_packet_that_failed_is_counted_moves_the_state_and_restarts_the_timer():
    lab = lab_at(1400)
    lab.service("rr", "A")
    lab.client("S")
    lab.wait(5)
    sized(lab, 1420).stolen("mtu").state("ESTABLISHED", 900).in_pkts(2).totals(1, 2, 0, 1460, 0)


# --- time to live ---


@pytest.mark.parametrize(("method", "out"), [("masq", (0, 0)), ("direct", (1, 68)), ("tunnel", (1, 68))])
@pytest.mark.parametrize("ttl", [0, 1])
def test_last_hop(lab, method, out, ttl):
    lab.service("rr", "A", forward=method)
    lab.client("S", ttl=ttl).stolen("ttl").is_refused(11, 0, length=68, ttl=ttl).state("SYN_RECV", 60).totals(1, 1, out[0], 40, out[1])


def test_last_but_one_hop(lab):
    lab.service("rr", "A")
    lab.client("S", ttl=2).goes_to("A").ttl(1)


def test_last_hop_to_a_local_server():
    lab = lab_at()
    lab.service("rr", "10.1.0.1:81")
    lab.client("S", ttl=1).verdict("ACCEPT", "local").ttl(1)


def test_last_hop_ipv6():
    lab = Lab(routing=Host(routed=(VIP6,)))
    lab.service("rr", "A", address=VIP6)
    lab.client("S", ttl=1).stolen("ttl").is_refused(3, 0, length=108, source="2001:db8:9::1", ttl=1)


# --- no route ---


@pytest.mark.parametrize(("method", "out"), [("masq", (0, 0)), ("direct", (1, 68)), ("tunnel", (1, 68))])
def test_unreachable_server(method, out):
    lab = lab_at(unreachable=("10.1.0.11",))
    lab.service("rr", "A", forward=method)
    lab.client("S").stolen("no route").is_refused(3, 1, length=68).state("SYN_RECV", 60).totals(1, 1, out[0], 40, out[1])


def test_unreachable_ipv6_server():
    lab = lab_at(unreachable=("2001:db8:1::11",))
    lab.service("rr", "A", address=VIP6)
    lab.client("S").stolen("no route").is_refused(1, 3, source=VIP6)


def test_policy_routed_destination_gets_no_error():
    lab = Lab(routing=Host(routed=(VIP,)))
    lab.service("rr", "A")
    lab.client("S", ttl=1).stolen("ttl").silently()
    lab.delete("A").client("S", 40001).dropped("no destination").silently()


def test_bypass_of_an_unroutable_or_local_destination():
    lab = lab_at(unreachable=("198.51.100.9",))
    lab.service("rr", fwmark=7).sysctl(cache_bypass=1)
    lab.client("S", vip="198.51.100.9", mark=7).stolen("no route")
    lab.client("S", vip=VIP, mark=7).dropped("no destination")


# --- routes of translated replies ---


def test_translated_reply_is_routed_again_by_its_new_source_and_mark():
    lab = lab_at()
    lab.service("rr", "A").established()
    lookups = lab.ns.routing.lookups
    lookups.clear()
    lab.server("A", "PA", mark=3).leaves_from(VIP)
    assert [(src, mark) for _, _, src, mark in lookups] == [(lab.svc.addr, 3)]
    lab.sysctl(snat_reroute=0).server("A", "PA").leaves_from(VIP)
    assert len(lookups) == 1


def test_reply_that_cannot_be_routed_is_lost_uncounted():
    host = Host(VIP)
    lab = Lab(routing=host)
    lab.service("rr", "A").established()
    cp, before = lab.conn(), lab.ns.tot_stats.live()
    host.unreachable = [*Host(unreachable=("203.0.113.5",)).unreachable]
    lab.wait(5)
    lab.server("A", "FA").stolen("no route").silently().state("ESTABLISHED", 900)
    lab.stats(lab.ns.tot_stats, *before)
    inner = Packet.tcp(("203.0.113.5", 40000), ("10.1.0.11", 8080), "A").raw[:28]
    lab.says(Packet.icmp("10.1.0.11", "203.0.113.5", 3, 3, bytes(4), inner, ttl=63, device="rs"), Hook.FORWARD).dropped("no route")
    assert cp.refcnt == 1


# --- IPv6 ---


def test_nat_ipv6_byte_for_byte(lab):
    lab.service("rr", "A", address=VIP6)
    lab.client("S").goes_to("A", 8080).bytes(SYN6_SENT)


def test_direct_ipv6_changes_the_hop_limit_only(lab):
    lab.service("rr", "A", address=VIP6, forward="direct")
    said = lab.client("S").goes_to("A")
    assert said.left.raw == said.packet.raw[:7] + b"\x3f" + said.packet.raw[8:]


IPV6_SIZES = [
    # service, server, device MTU, inner size, MTU told (0: dropped in silence, None: sent)
    (VIP6, "A", "tunnel", 1500, 1460, None),
    (VIP6, "A", "tunnel", 1500, 1461, 1460),
    (VIP6, "A", "tunnel", 1319, 1279, 0),
    (VIP6, "A", "tunnel", 1320, 1280, None),
    (VIP6, "A", "tunnel", 1320, 1281, 1280),
    (VIP6, "A", "masq", 1400, 1440, 1400),
    (VIP6, "10.1.0.11:80", "tunnel", 1300, 1280, None),
    (VIP6, "10.1.0.11:80", "tunnel", 1300, 1281, 1280),
    (VIP6, "10.1.0.11:80", "tunnel", 1200, 1181, 1180),
    (VIP, "[2001:db8:1::11]:80", "tunnel", 1300, 1260, 0),
    (VIP, "[2001:db8:1::11]:80", "tunnel", 1320, 1280, None),
    (VIP, "[2001:db8:1::11]:80", "tunnel", 1320, 1281, 1280),
]


@pytest.mark.parametrize(("vip", "server", "method", "mtu", "size", "told"), IPV6_SIZES)
def test_sizes_over_ipv6_and_between_the_families(vip, server, method, mtu, size, told):
    lab = lab_at(mtu)
    lab.service("rr", server, address=vip, forward=method)
    lab.client("S")
    said = sized(lab, size)
    if told is None:
        said.verdict("STOLEN", "forwarded")
    elif told == 0:
        said.stolen("tunnel mtu").silently()
    elif vip == VIP6:
        said.stolen("mtu").is_refused(2, 0, info=told, source=VIP6, length=min(size + 48, 1280))
    else:
        said.stolen("mtu").is_refused(3, 4, info=told)


def test_ipv4_in_ipv6_without_pmtu_disc_is_fragmented():
    lab = lab_at(1320)
    lab.service("rr", "[2001:db8:1::11]:80", forward="tunnel").sysctl(pmtu_disc=0)
    lab.client("S")
    said = sized(lab, 1281).verdict("STOLEN", "forwarded")
    assert len(fragment(said.left, 1320)) == 2


def test_reassembled_ipv6_packet_is_judged_by_its_largest_fragment():
    lab = lab_at(1400)
    lab.service("rr", "A", address=VIP6)
    lab.client("S")
    whole = sized(lab, 1460).stolen("mtu").packet
    lab.says(Packet.parse(whole.raw, device="cli", frag_max_size=1296)).goes_to("A", 8080)


@pytest.mark.parametrize(
    ("vip", "server", "outer"),
    [
        (VIP6, "10.1.0.11:80", (4, 80, False, 41)),
        (VIP, "[2001:db8:1::11]:80", (6, 80, False, 4)),
        (VIP6, "[2001:db8:1::11]:80", (6, 100, False, 41)),
    ],
)
def test_tunnels_between_the_families(vip, server, outer):
    lab = lab_at()
    lab.service("rr", server, address=vip, forward="tunnel")
    left = lab.client("S").verdict("STOLEN", "forwarded").left
    protocol = left.raw[9] if left.af == 2 else left.raw[6]
    assert (left.raw[0] >> 4, left.length, left.df, protocol, left.ttl) == (*outer, 63)


def test_gre_checksum_over_ipv6_byte_for_byte():
    lab = lab_at()
    lab.service("rr", "A", address=VIP6, forward="tunnel", tun_type="gre", tun_flags=1)
    lab.client("S")
    raw = lab.client("A", seq=1001, ack=5001).left.raw.hex()
    assert raw[:16] == "6000000000442f3f"
    assert raw[80:96] == "800086dd92e80000"


# --- what a transmitter leaves behind ---


def test_sent_packets_are_marked_and_never_looked_at_again(lab):
    lab.service("rr", "A")
    said = lab.client("S").goes_to("A")
    assert said.left.bits & PKT_PROPERTY
    lab.says(said.left, Hook.LOCAL_OUT).accepted("property")


def test_route_is_looked_up_once_and_dropped_by_an_edit():
    lab = lab_at()
    lab.service("rr", "A", forward="direct").established()
    lab.client("PA")
    to_server = [dst for _, dst, _, _ in lab.ns.routing.lookups if dst == lab.dest("A").addr]
    assert len(to_server) == 1
    lab.edit("A", weight=2).client("PA")
    assert len([dst for _, dst, _, _ in lab.ns.routing.lookups if dst == lab.dest("A").addr]) == 2


def test_device_that_narrows_is_noticed_after_an_edit_of_the_server():
    host = Host(VIP)
    lab = Lab(routing=host)
    lab.service("rr", "A").established()
    host.mtu = 1000
    sized(lab, 1400).goes_to("A")
    lab.edit("A")
    sized(lab, 1400).stolen("mtu")


def test_watchers_hear_the_transmitter(lab):
    heard = []
    lab.ipvs.subscribe(lambda event: heard.append(event.what) if isinstance(event, Transmitted) else None)
    lab.service("rr", "A")
    lab.client("S")
    lab.client("A", ttl=1)
    assert heard == ["forwarded", "ttl"]


# --- rare ends ---


def test_icmp_error_for_a_nat_server_that_is_unreachable_or_at_home():
    host = Host(VIP)
    lab = Lab(routing=host)
    lab.service("rr", "A").established()
    inner = Packet.tcp((VIP, 80), ("203.0.113.5", 40000), "A").raw[:28]
    host.unreachable = [*Host(unreachable=("10.1.0.11",)).unreachable]
    lab.edit("A")
    lab.says(Packet.icmp("198.51.100.9", VIP, 3, 1, bytes(4), inner, device="cli")).stolen("no route").silently()
    lab.service("rr", "127.0.0.1:81", address="192.0.2.1", port=81)
    lab.client("S", 40001, vport=81).stolen("loopback server")
    inner = Packet.tcp((VIP, 81), ("203.0.113.5", 40001), "A").raw[:28]
    lab.says(Packet.icmp("198.51.100.9", VIP, 3, 1, bytes(4), inner, device="cli")).stolen("loopback server").silently()


def test_forwarded_icmp_error_never_reaches_a_local_server():
    lab = lab_at()
    lab.service("rr", "10.1.0.1:81")
    lab.client("S").verdict("ACCEPT", "local")
    inner = Packet.tcp((VIP, 80), ("203.0.113.5", 40000), "A").raw[:28]
    error = Packet.icmp("198.51.100.9", VIP, 3, 1, bytes(4), inner, device="cli")
    lab.says(error, Hook.FORWARD).stolen("boundary")
    lab.says(error.clone()).verdict("ACCEPT", "local").ttl(64)


def test_local_client_may_use_a_local_direct_server_if_its_own_route_is_local():
    lab = lab_at()
    lab.service("rr", "10.1.0.1:80", forward="direct")
    lab.client("S", address=VIP, hook=Hook.LOCAL_OUT).accepted("local")
    lab.service("rr", "10.1.0.1:80", fwmark=7, forward="direct")
    lab.client("S", address=VIP, vip="198.51.100.7", mark=7, hook=Hook.LOCAL_OUT).stolen("boundary")
    lab.client("S", 40001, address=VIP, vip="198.51.100.7", mark=7, hook=Hook.LOCAL_OUT, bits=PKT_ROUTE_LOCAL).accepted("local")


def test_ipv6_loopback_server_is_for_local_clients_only():
    lab = lab_at()
    lab.service("rr", "[::1]:81", address=VIP6)
    lab.client("S").stolen("loopback server")
    lab.client("S", 40001, address="2001:db8:1::1", hook=Hook.LOCAL_OUT).verdict("ACCEPT", "local")


def test_persistent_service_without_usable_server_refuses_too(lab):
    lab.service("rr", "A", persistent=60, weight=0)
    lab.client("S").is_refused(3, 3).dropped("no destination")
    assert lab.templates == []
