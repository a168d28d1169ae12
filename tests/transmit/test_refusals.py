"""What a transmitter refuses, and what it is told: local servers, errors on their way, tunnels without a server, helpers that spoil a packet."""

import pytest
from tests.host import Host
from tests.lab import CLIENT, CLIENT6, VIP, VIP6, Lab
from tests.sync.examples import record
from tests.sync.lab import BACKUP, received, start

from ipvs_model.apps import App, Ftp
from ipvs_model.apps.base import HookResult
from ipvs_model.flags import PKT_HAS_CT, PKT_ROUTE_LOCAL, Hook
from ipvs_model.packet import Packet
from ipvs_model.transmit.action import Dropped, Stolen, Tunnelled

ROUTER, ROUTER6 = "198.51.100.9", "2001:db8:e::1"


def lab_at(**options) -> Lab:
    return Lab(routing=Host(VIP, VIP6, **options))


def about_reply(**more) -> Packet:
    """An error of a router about VIP:80 → client."""
    return Packet.icmp(ROUTER, VIP, 3, 1, bytes(4), Packet.tcp((VIP, 80), (CLIENT, 40000), "A").raw, device="cli", **more)


# --- errors on their way to a server ---


def test_error_at_its_last_hop_is_not_sent_on_and_nobody_is_told(lab):
    lab.service("rr", "A").established()
    lab.says(about_reply(ttl=1)).stolen("ttl").silently()
    lab.says(about_reply(ttl=2)).verdict("STOLEN", "icmp forwarded").ttl(1)


def test_error_for_a_loopback_server_is_refused_when_it_comes_from_outside():
    lab = lab_at()
    lab.service("rr", "127.0.0.1:8080")
    lab.client("S", hook=Hook.LOCAL_OUT).verdict("ACCEPT", "local")
    lab.says(about_reply()).stolen("loopback server").silently()


def test_oversize_error_over_ipv6_is_lost_in_silence():
    lab = lab_at(mtu=1280)
    lab.service("rr", "A", address=VIP6, forward="direct").client("S")
    quoted = Packet.tcp((VIP6, 80), (CLIENT6, 40000), "A", payload=bytes(1200)).raw
    error = Packet.icmp(ROUTER6, VIP6, 1, 3, bytes(4), quoted, device="cli")
    assert error.length > 1280
    lab.says(error).stolen("mtu").silently()


def test_own_error_that_local_out_drops_does_not_leave(lab):
    lab.service("rr", "A")
    lab.ns.run_local_out = lambda packet: None
    lab.client("S", ttl=1).stolen("ttl").silently()


# --- local servers ---


def test_local_client_is_told_apart_by_the_route_that_its_packet_has():
    lab = lab_at()
    lab.service("rr", "10.1.0.1:80", forward="direct")
    lab.client("S", hook=Hook.LOCAL_OUT, vip=VIP, bits=PKT_ROUTE_LOCAL).verdict("ACCEPT", "local")
    lookups = len(lab.ns.routing.lookups)
    lab.client("A", hook=Hook.LOCAL_OUT, vip=VIP, bits=PKT_ROUTE_LOCAL).verdict("ACCEPT", "local")
    assert len(lab.ns.routing.lookups) == lookups  # neither the server's route nor the packet's own was asked for again


@pytest.mark.parametrize(("device", "reason"), [("eth0", "loopback server"), ("lo", "local"), (None, "local")])
def test_ipv6_loopback_server_is_for_local_clients_only(device, reason):
    lab = lab_at()
    lab.service("rr", "[::1]:8080", address=VIP6)
    said = lab.says(Packet.tcp((CLIENT6, 40000), (VIP6, 80), device=device))
    said.verdict("ACCEPT" if reason == "local" else "STOLEN", reason)
    said.state("SYN_RECV", 60)


def test_other_local_server_over_ipv6_takes_anybody():
    lab = lab_at()
    lab.service("rr", "[2001:db8:1::1]:8080", address=VIP6)
    said = lab.client("S").verdict("ACCEPT", "local")
    assert (said.left.dport, said.left.ttl) == (8080, 64)


@pytest.mark.parametrize(("bits", "verdict", "reason"), [(PKT_HAS_CT, "STOLEN", "synced local"), (0, "ACCEPT", "local")])
def test_synced_connection_with_a_local_server_is_refused_if_conntrack_follows_the_packet(bits, verdict, reason):
    lab = lab_at()
    lab.service("rr", "10.1.0.1:8080")
    start(lab.ipvs, BACKUP)
    assert received(lab.ipvs, record(6, 0, 1, f"{CLIENT}:40000", f"{VIP}:80", "10.1.0.1:8080", 900)).applied == 1
    lab.client("A", bits=bits).verdict(verdict, reason).silently()


# --- tunnels ---


def test_tunnel_entry_without_a_server_has_no_way():
    lab = lab_at()
    lab.service("rr")
    start(lab.ipvs, BACKUP)
    assert received(lab.ipvs, record(6, 2, 1, f"{CLIENT}:40000", f"{VIP}:80", "10.1.0.99:80", 900)).applied == 1
    lab.client("A").stolen("no route").silently()


def test_tunnel_follows_pmtu_disc_though_its_action_is_shared():
    lab = lab_at()
    lab.service("rr", "A", forward="tunnel")
    first = lab.client("S")
    assert isinstance(first.action, Tunnelled) and first.left.df
    assert lab.client("A").action is first.action
    lab.sysctl(pmtu_disc=0)
    second = lab.client("A")
    assert (second.action is first.action, second.left.df) == (False, False)
    assert lab.client("A").action is second.action


# --- helpers ---


class Cutter(App):
    """A helper that leaves four bytes of a datagram's header."""

    name = "cutter"
    protocol = 17
    ports = (80,)

    def pkt_in(self, cp, pkt):
        return HookResult(1, Packet.parse(pkt.raw[:24], device=pkt.device))

    pkt_out = pkt_in


def test_helper_that_cuts_the_header_loses_the_packet():
    lab = Lab(plugins=(Cutter,))
    lab.service("rr", "A", protocol="udp")
    lab.client(payload=b"hello").stolen("rewrite refused")
    lab.server("A", payload=b"hello").stolen("rewrite refused")
    assert lab.conn().refcnt == 1


@pytest.mark.parametrize("direction", ["client", "server"])
def test_helped_connection_loses_a_cut_segment(direction):
    lab = Lab(plugins=(Ftp,))
    lab.service("rr", "A:21", port=21).established()
    ends = ((CLIENT, 40000), (VIP, 21)) if direction == "client" else (("10.1.0.11", 21), (CLIENT, 40000))
    cut = Packet.parse(Packet.tcp(*ends, "A", ttl=63).raw[:39], device="eth0")
    lab.says(cut, Hook.LOCAL_IN if direction == "client" else Hook.FORWARD).stolen("rewrite refused")


# --- words ---


def test_actions_print_their_verdict_and_reason():
    assert [repr(Dropped("ttl")), repr(Stolen("fragment"))] == ["<Dropped DROP 'ttl'>", "<Stolen STOLEN 'fragment'>"]
