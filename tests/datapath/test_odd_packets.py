"""Packets that are cut, in pieces, or quote what nobody sent, and what each step of the packet path makes of them."""

import pytest
from tests.host import Host
from tests.lab import CLIENT, CLIENT6, SERVERS, VIP, VIP6, Lab
from tests.sync.examples import record
from tests.sync.lab import BACKUP, received, start

from ipvs_model.conn import Conn
from ipvs_model.datapath.icmp import ip_vs_forward_icmp
from ipvs_model.datapath.incoming import ip_vs_in_hook
from ipvs_model.flags import IP_VS_CONN_F_NO_CPORT, PKT_PROPERTY, Hook, Verdict
from ipvs_model.packet import Packet
from ipvs_model.packet.build import ip_packet
from ipvs_model.packet.fragment import fragment

ROUTER = "198.51.100.9"


def error_about(quoted: bytes, dst: str = VIP, src: str = ROUTER, kind: int = 3, code: int = 1, rest: bytes = bytes(4)) -> Packet:
    return Packet.icmp(src, dst, kind, code, rest, quoted, device="cli")


def long_header(packet: Packet) -> bytes:
    """An IPv4 packet that says its header has 60 bytes, cut behind 40."""
    return bytes([0x4F]) + packet.raw[1:40]


# --- pieces ---


def test_reply_in_pieces_is_translated_whole_and_the_last_piece_gets_the_verdict():
    lab = Lab()
    lab.service("rr", "A", protocol="udp").client()
    first, last = fragment(Packet.udp(("10.1.0.11", 8080), (CLIENT, 40000), bytes(100), ttl=63, df=False, device="rs"), 92)
    assert lab.says(first, Hook.FORWARD).stolen("fragment").silently().action.device == ""
    said = lab.says(last, Hook.FORWARD).leaves_from(VIP, 80)
    assert (said.left.length, said.left.ttl, said.left.pieces) == (128, 63, (72, 36))
    lab.totals(1, 1, 1, 28, 128)


def test_later_piece_over_ipv6_finds_no_connection_and_makes_none(lab):
    lab.service("rr", "A", address=VIP6)
    piece = ip_packet(10, 44, *addresses6(), bytes.fromhex("06000100 00000001") + bytes(32))
    lab.says(Packet.parse(piece, device="cli")).accepted("no connection").no_conn()


def addresses6() -> tuple[int, int]:
    packet = Packet.tcp((CLIENT6, 1), (VIP6, 80))
    return packet.saddr, packet.daddr


def test_later_piece_of_an_sctp_packet_has_no_ports_whatever_its_data_look_like(lab):
    lab.service("rr", "A", protocol="sctp")
    whole = Packet.sctp((CLIENT, 40000), (VIP, 80))
    piece = whole.raw[:6] + b"\x00\x01" + whole.raw[8:]
    lab.says(Packet.parse(piece, device="cli")).dropped("short header").no_conn()


# --- cut packets ---


def test_cut_reply_of_a_connection_ends_uncounted(lab):
    lab.service("rr", "A").established()
    cp, before = lab.conn(), lab.ns.tot_stats.live()
    whole = Packet.tcp(("10.1.0.11", 8080), (CLIENT, 40000), "A", ttl=63)
    lab.says(Packet.parse(whole.raw[:32], device="rs"), Hook.FORWARD).stolen("rewrite refused")
    lab.stats(lab.ns.tot_stats, *before)
    assert (cp.refcnt, cp.state_name) == (1, "ESTABLISHED")


def test_marked_packet_is_not_looked_at_by_either_function(lab):
    lab.service("rr", "A")
    packet = Packet.tcp((CLIENT, 40000), (VIP, 80), bits=PKT_PROPERTY)
    lab.says(packet).accepted("property").no_conn()
    assert ip_vs_in_hook(lab.ns, Hook.LOCAL_IN, packet).reason == "property"


# --- errors that quote too little ---


def test_scheduled_error_needs_the_ports_of_the_quoted_packet(lab):
    lab.service("rr", "A").sysctl(schedule_icmp=1)
    quoted = Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw
    lab.says(error_about(quoted[:23])).dropped("short header").silently().no_conn()
    lab.says(error_about(quoted[:24]), client=Packet.tcp((CLIENT, 40000), VIP + ":80").src).verdict("STOLEN", "icmp forwarded")


@pytest.mark.parametrize(("hook", "verdict", "reason"), [(Hook.LOCAL_IN, "STOLEN", "rewrite refused"), (Hook.FORWARD, "DROP", "short header")])
def test_quoted_header_that_ends_behind_the_packet_cannot_be_translated(hook, verdict, reason):
    """An ESP packet is found by its addresses alone, so that the error reaches the rewriting."""
    lab = Lab()
    lab.service("rr", "A:500", protocol="udp", port=500).client(sport=500)
    if hook is Hook.LOCAL_IN:
        error = error_about(long_header(Packet.esp(VIP, CLIENT)))
    else:
        error = error_about(long_header(Packet.esp(CLIENT, SERVERS["A"])), CLIENT, SERVERS["A"])
    lab.says(error, hook).verdict(verdict, reason)
    assert lab.conn(500).refcnt == 1


def test_backup_only_keeps_forwarded_errors_away_too():
    lab = Lab()
    lab.service("rr", "A").established()
    start(lab.ipvs, BACKUP)
    quoted = Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw
    lab.says(error_about(quoted), Hook.FORWARD).verdict("STOLEN", "icmp forwarded")
    assert ip_vs_forward_icmp(lab.sysctl(backup_only=1).ns, Hook.FORWARD, error_about(quoted)).reason == "backup only"
    lab.says(error_about(quoted), Hook.FORWARD).accepted("icmp unrelated")


# --- errors about tunnel packets that are none of ours ---


def tunnels(**options) -> tuple[Lab, Packet]:
    """A tunnel service with a connection, and the tunnel packet of its SYN."""
    lab = Lab(routing=Host(VIP))
    lab.service("rr", "A", forward="tunnel", **options)
    return lab, lab.client("S").left


def complaint(lab: Lab, quoted: bytes, mtu: int = 1400):
    return lab.says(Packet.icmp("10.1.0.99", "10.1.0.1", 3, 4, mtu.to_bytes(4), quoted, device="rs"))


def test_tunnel_packet_of_a_connection_that_has_gone():
    lab, outer = tunnels()
    lab.wait(70)
    complaint(lab, outer.raw).accepted("icmp unrelated")


def test_udp_to_a_server_of_ours_at_a_port_that_is_no_tunnel():
    lab, _ = tunnels(tun_type="gue", tun_port=6080)
    complaint(lab, Packet.udp(("10.1.0.1", 5000), ("10.1.0.11", 53), bytes(40)).raw).accepted("icmp unrelated")


def test_udp_to_the_tunnel_port_of_a_server_that_takes_no_gue():
    # port 17 falls into the bucket of port 0, where IPIP servers stand
    lab, _ = tunnels(tun_type="ipip", tun_port=17)
    complaint(lab, Packet.udp(("10.1.0.1", 5000), ("10.1.0.11", 17), bytes(40)).raw).accepted("icmp unrelated")


@pytest.mark.parametrize("first", ["20", "80", "40"], ids=["control message", "version 2", "version 1"])
def test_gue_that_carries_no_packet(first):
    lab, outer = tunnels(tun_type="gue", tun_port=6080)
    broken = outer.raw[:28] + bytes.fromhex(first) + outer.raw[29:]
    complaint(lab, broken).accepted("icmp unrelated")
    complaint(lab, outer.raw[:29] + b"\x29" + outer.raw[30:]).accepted("icmp unrelated")  # IPv6 inside


def test_gue_with_private_fields_is_stepped_over():
    lab, outer = tunnels(tun_type="gue", tun_port=6080)
    longer = outer.raw[:28] + bytes.fromhex("0104 0000 00000000") + outer.raw[32:]
    assert complaint(lab, longer).stolen("tunnel error").errors[0].l4_bytes[4:8] == (1500 - 36).to_bytes(4)  # the MTU of the cached route


@pytest.mark.parametrize("header", ["2000 0800", "0001 0800", "0000 86dd", "0000 6558"], ids=["key", "version 1", "ipv6 inside", "ethernet inside"])
def test_gre_that_is_not_ours(header):
    lab, outer = tunnels(tun_type="gre")
    complaint(lab, outer.raw[:20] + bytes.fromhex(header) + outer.raw[24:]).accepted("icmp unrelated")


def test_gre_header_that_is_cut_and_gre_to_a_server_that_takes_none():
    lab, outer = tunnels(tun_type="gre")
    complaint(lab, outer.raw[:23]).accepted("icmp unrelated")
    lab.edit("A", tun_type="ipip")
    complaint(lab, outer.raw).accepted("icmp unrelated")


def test_narrow_way_is_told_as_it_was_reported_when_no_route_is_cached():
    lab, outer = tunnels()
    lab.edit("A", weight=2)  # drops the cached route
    assert complaint(lab, outer.raw, 1400).stolen("tunnel error").errors[0].l4_bytes[4:8] == (1380).to_bytes(4)


def test_way_too_narrow_for_the_tunnel_header_is_told_as_it_was_reported():
    lab, outer = tunnels()
    lab.edit("A", weight=2)
    assert complaint(lab, outer.raw, 88).stolen("tunnel error").errors[0].l4_bytes[4:8] == (88).to_bytes(4)
    assert complaint(lab, outer.raw, 89).stolen("tunnel error").errors[0].l4_bytes[4:8] == (69).to_bytes(4)


# --- entries that came from a master ---


def isakmp(flags: int = IP_VS_CONN_F_NO_CPORT) -> tuple[Lab, Conn]:
    """A synced ISAKMP entry whose client port is not known."""
    lab = Lab()
    lab.service("rr", "A:500", protocol="udp", port=500)
    start(lab.ipvs, BACKUP)
    assert received(lab.ipvs, record(17, flags, 0, f"{CLIENT}:0", f"{VIP}:500", "10.1.0.11:500", 300)).applied == 1
    (cp,) = lab.ipvs.conns()
    return lab, cp


def test_esp_gives_an_entry_half_of_its_spi_as_client_port():
    lab, cp = isakmp()
    lab.says(Packet.esp(CLIENT, VIP, spi=0x12345678, device="cli"), client=cp.client).verdict("STOLEN", "forwarded")
    assert (cp.cport, cp.flags & IP_VS_CONN_F_NO_CPORT, lab.ns.no_cport_count) == (0x1234, 0, 0)


def test_esp_without_two_bytes_is_lost():
    lab, cp = isakmp()
    said = lab.says(Packet.ip(CLIENT, VIP, 50, b"\x12", device="cli"), client=cp.client)
    assert (said.action.verdict, said.action.reason, cp.cport) == (Verdict.STOLEN, "short header", 0)
