"""The SIP engine: keys, templates, connections begun by servers (spec/60 sections 8 and 9)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.apps.lab import Lab, endpoint

from ipvs_model.conn import Conn, ConnParam
from ipvs_model.engines import PersistenceEngine, Sip
from ipvs_model.flags import IP_VS_CONN_F_ONE_PACKET, Hook
from ipvs_model.packet import Packet, fill_iph

VIP, A, B = "192.168.100.1:5060", "10.1.0.11:5060", "10.1.0.12:5060"
CLIENT = "172.16.0.5:5999"


def invite(call: str, start: str = "INVITE sip:a@b SIP/2.0") -> bytes:
    return f"{start}\r\nVia: SIP/2.0/UDP h\r\nCall-ID: {call}\r\n\r\n".encode()


def templates(lab: Lab) -> list[str]:
    return sorted(f"{str(cp.key()).split(' ', 1)[1]} {cp.state_name} {cp.pe.show_pe_data(cp)}" for cp in lab.ns.conns if cp.is_template)


@pytest.fixture
def sip() -> Sip:
    return Sip()


@pytest.fixture
def calls(lab: Lab, sip: Sip) -> Lab:
    """A persistent UDP service with the engine on two servers."""
    lab.service(VIP, A, B, protocol=17, persistent=True, engine=sip)
    return lab


def ask(lab: Lab, call: str, client: str = CLIENT) -> str | None:
    """The server that a first request goes to."""
    out = lab.client(Packet.udp(client, VIP, invite(call)))
    return None if out is None else {endpoint(A): "A", endpoint(B): "B"}[out.dst]


# --- hash and key -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "initval", "value", "bucket"),
    [
        ("xyz", 0, 0xEF8D7C58, 3160),
        ("xyz", 0x12345678, 0xB9A71E44, 3652),
        ("abc@h", 0, 0xFDFB7D97, 3479),
        ("abc@h", 0x12345678, 0xB757F75E, 1886),
        ("abc@host.example", 0, 0xA7930348, 840),
        ("abc@host.example", 0x12345678, 0x61B84A16, 2582),
        ("3848276298220188511@atlanta.example.com", 0, 0xBE1322E9, 745),
        ("3848276298220188511@atlanta.example.com", 0x12345678, 0x641ECA0E, 2574),
    ],
)
def test_hash(sip: Sip, call: str, initval: int, value: int, bucket: int) -> None:
    for inverse in (False, True):
        assert sip.hashkey_raw(call.encode(), initval, inverse) == value
    assert value & 4095 == bucket


KEY = ConnParam(2, 17, endpoint("172.16.0.5:0"), endpoint(VIP))


def test_the_key_is_the_call_id(sip: Sip) -> None:
    assert sip.fill_param(KEY, Packet.udp(CLIENT, VIP, invite("xyz"))) == ConnParam(2, 17, KEY.client, KEY.virt, sip, b"xyz")


@pytest.mark.parametrize("pkt", [Packet.udp(CLIENT, VIP), Packet.udp(CLIENT, VIP, b"x"), Packet.tcp(CLIENT, VIP, payload=invite("xyz")), Packet.sctp(CLIENT, VIP)])
def test_what_is_refused(sip: Sip, pkt: Packet) -> None:
    assert sip.fill_param(KEY, pkt) is None


def test_the_udp_length_is_not_looked_at(sip: Sip) -> None:
    pkt = Packet.udp(CLIENT, VIP, invite("xyz"))
    short = pkt.with_raw(pkt.raw[:24] + b"\x00\x08" + pkt.raw[26:])
    assert sip.fill_param(KEY, short) is not None


# --- templates ----------------------------------------------------------------------------------------------------------


def test_one_call_goes_to_one_server_from_any_port(calls: Lab) -> None:
    assert ask(calls, "one") == ask(calls, "one", "172.16.0.5:6000") == "B"
    assert ask(calls, "two", "172.16.0.5:6001") == "A"
    assert ask(calls, "One", "172.16.0.5:6002") == "B", "letters are told apart: another call"
    assert templates(calls) == [
        "172.16.0.5:0 -> 192.168.100.1:5060 -> 10.1.0.11:5060 NONE two",
        "172.16.0.5:0 -> 192.168.100.1:5060 -> 10.1.0.12:5060 NONE One",
        "172.16.0.5:0 -> 192.168.100.1:5060 -> 10.1.0.12:5060 NONE one",
    ]
    assert all((cp.pe, cp.pe_data) == (None, b"") for cp in calls.ns.conns if not cp.is_template)


def test_two_clients_with_one_call_have_two_templates(calls: Lab) -> None:
    assert ask(calls, "one") == "B" and ask(calls, "one", "172.16.0.6:5999") == "A"
    assert len(templates(calls)) == 2


def test_with_netmask_0_the_call_alone_decides(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, B, protocol=17, persistent=True, engine=sip, netmask=0)
    assert ask(lab, "one") == ask(lab, "one", "10.9.9.9:1") == "B"


def test_a_message_without_call_id_is_dropped_unless_its_entry_exists(calls: Lab) -> None:
    assert calls.client(Packet.udp(CLIENT, VIP, b"x")) is None and len(calls.ns.conns) == 0
    ask(calls, "one")
    assert calls.client(Packet.udp(CLIENT, VIP, b"x")) is not None


def test_a_tcp_service_drops_every_new_connection(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, persistent=True, engine=sip)
    assert lab.client(Packet.tcp(CLIENT, VIP, payload=invite("xyz"))) is None and len(lab.ns.conns) == 0


def test_an_engine_does_nothing_for_a_service_that_is_not_persistent(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, protocol=17, engine=sip)
    assert lab.client(Packet.udp(CLIENT, VIP, b"x")) is not None


def test_match_compares_all_but_the_client_port(calls: Lab, sip: Sip) -> None:
    ask(calls, "one")
    (ct,) = (cp for cp in calls.ns.conns if cp.is_template)
    (cp,) = (cp for cp in calls.ns.conns if not cp.is_template)
    assert sip.ct_match(ConnParam(2, 17, KEY.client | 99, KEY.virt, sip, b"one"), ct)
    for other in (
        ConnParam(10, 17, KEY.client, KEY.virt, sip, b"one"),
        ConnParam(2, 0, KEY.client, KEY.virt, sip, b"one"),
        ConnParam(2, 17, endpoint("172.16.0.6:0"), KEY.virt, sip, b"one"),
        ConnParam(2, 17, KEY.client, endpoint("192.168.100.1:0"), sip, b"one"),
        ConnParam(2, 17, KEY.client, endpoint("192.168.100.2:5060"), sip, b"one"),
        ConnParam(2, 17, KEY.client, KEY.virt, sip, b"ONE"),
        ConnParam(2, 17, KEY.client, KEY.virt, sip, b"one2"),
    ):
        assert not sip.ct_match(other, ct)
    cp.pe_data = b"one"
    assert not sip.ct_match(ConnParam(2, 17, cp.client, cp.virt, sip, b"one"), cp), "not a template"


# --- connections begun by servers ---------------------------------------------------------------------------------------

CALLED = "172.16.0.9:5997"


def test_a_server_begins_a_call(calls: Lab) -> None:
    out = calls.server(Packet.udp(B, CALLED, invite("new"), mark=5))
    assert out is not None and out.src == endpoint(VIP)
    assert calls.conns() == ["172.16.0.9:5997 -> 192.168.100.1:5060 -> 10.1.0.12:5060 UDP"]
    assert templates(calls) == ["172.16.0.9:0 -> 192.168.100.1:5060 -> 10.1.0.12:5060 ASSURED new"]
    cp = calls.conn(CALLED)
    assert (cp.fwmark, cp.in_pkts, cp.refcnt, cp.control.refcnt, cp.control.n_control) == (0, 0, 1, 1, 1)
    assert (cp.dest.stats.conns, cp.dest.stats.outpkts, cp.dest.svc.stats.conns) == (1, 1, 1)
    assert cp.control.timeout == 60 * 250
    assert ask(calls, "new", CALLED) == "B"


@pytest.mark.parametrize(("server", "payload"), [(B, b"x"), ("10.1.0.12:5061", invite("new")), ("10.1.0.13:5060", invite("new"))])
def test_other_packets_of_servers_leave_untranslated(calls: Lab, server: str, payload: bytes) -> None:
    out = calls.server(Packet.udp(server, CALLED, payload))
    assert out is not None and out.src == endpoint(server) and len(calls.ns.conns) == 0


def test_a_known_call_of_the_same_server_uses_its_template(calls: Lab) -> None:
    ask(calls, "one", CALLED)
    calls.server(Packet.udp(B, "172.16.0.9:6000", invite("one")))
    assert templates(calls) == ["172.16.0.9:0 -> 192.168.100.1:5060 -> 10.1.0.12:5060 ASSURED one"]
    assert len(calls.conns()) == 2


def test_the_template_of_another_server_is_invalidated(calls: Lab) -> None:
    ask(calls, "one", CALLED)
    calls.server(Packet.udp(A, "172.16.0.9:6000", invite("one")))
    assert templates(calls) == [
        "172.16.0.9:0 -> 192.168.100.1:5060 -> 10.1.0.11:5060 ASSURED one",
        "172.16.0.9:0 -> 192.168.100.1:65535 -> 10.1.0.12:65535 NONE one",
    ]


def test_without_persistence_there_is_no_template(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, protocol=17, engine=sip)
    assert lab.server(Packet.udp(A, CALLED, b"x")) is not None
    assert lab.conns() == ["172.16.0.9:5997 -> 192.168.100.1:5060 -> 10.1.0.11:5060 UDP"] and templates(lab) == []


def test_a_one_packet_service_keeps_nothing(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, protocol=17, engine=sip, one_packet=True)
    out = lab.server(Packet.udp(A, CALLED, b"x"))
    assert out is not None and out.src == endpoint(VIP) and lab.ns.conn_count == 0


def conn_out(lab: Lab, sip: Sip, pkt: Packet) -> Conn | None:
    (svc,) = lab.ns.services
    iph = fill_iph(pkt)
    return sip.conn_out(svc, svc.destinations[0], pkt, iph, iph.sport or 0, iph.dport or 0)


def test_services_without_a_port_of_their_own_begin_nothing(lab: Lab, sip: Sip) -> None:
    lab.service("192.168.100.1:0", A, protocol=17, persistent=True, engine=sip)
    assert conn_out(lab, sip, Packet.udp(A, CALLED, invite("x"))) is None
    (svc,) = lab.ns.services
    svc.port, svc.fwmark = 5060, 1
    assert conn_out(lab, sip, Packet.udp(A, CALLED, invite("x"))) is None
    svc.fwmark = 0
    assert conn_out(lab, sip, Packet.udp("10.1.0.11:0", CALLED, invite("x"))) is None


def test_only_udp(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, engine=sip)
    assert conn_out(lab, sip, Packet.tcp(A, CALLED)) is None


def test_one_packet_is_for_the_services_flag(lab: Lab, sip: Sip) -> None:
    lab.service(VIP, A, protocol=17, engine=sip, one_packet=True)
    cp = conn_out(lab, sip, Packet.udp(A, CALLED))
    assert cp is not None and cp.flags & IP_VS_CONN_F_ONE_PACKET and cp.refcnt == 1


def test_watchers_see_the_counter(calls: Lab) -> None:
    seen: list[Any] = []
    calls.ns.watch(seen.append)
    calls.server(Packet.udp(B, CALLED, invite("new")))
    assert any(event.function == "ip_vs_conn_stats" for event in seen)


def test_ipv6(lab: Lab, sip: Sip) -> None:
    lab.service("[2001:db8:2::1]:5060", "[2001:db8:1::11]:5060", protocol=17, persistent=True, engine=sip, netmask=64)
    lab.client(Packet.udp("[2001:db8:9::5]:5999", "[2001:db8:2::1]:5060", invite("one")))
    lab.server(Packet.udp("[2001:db8:1::11]:5060", "[2001:db8:9::6]:6000", invite("one")))
    assert templates(lab) == ["[2001:db8:9::]:0 -> [2001:db8:2::1]:5060 -> [2001:db8:1::11]:5060 ASSURED one"]


# --- an engine of one's own ---------------------------------------------------------------------------------------------


class FirstByte(PersistenceEngine):
    """Persistence by the first byte of the payload; templates hashed and compared as usual but for the key."""

    name = "first-byte"

    def fill_param(self, param: ConnParam, pkt: Packet) -> ConnParam | None:
        return ConnParam(param.af, param.protocol, param.client, param.virt, self, pkt.payload[:1])

    def ct_match(self, param: ConnParam, ct: Conn) -> bool:
        return bool(ct.pe_data == param.pe_data)


def test_a_users_engine(lab: Lab) -> None:
    lab.service(VIP, A, B, protocol=17, persistent=True, engine=FirstByte())

    def server(client: str, payload: bytes) -> int:
        out = lab.client(Packet.udp(client, VIP, payload))
        assert out is not None
        return out.dst

    assert server("172.16.0.5:1", b"a1") == server("172.16.0.5:2", b"a2") == endpoint(B)
    assert server("172.16.0.5:3", b"b1") == endpoint(A)
    assert server("172.16.0.5:4", b"") == endpoint(A), "without a key ordinary persistence: the youngest template of the client"


def test_hook_of_the_server_side_only(calls: Lab) -> None:
    from ipvs_model.datapath import run_hook

    run_hook(calls.ns, Hook.LOCAL_IN, Packet.udp(B, CALLED, invite("new"), device="rs"))
    assert len(calls.ns.conns) == 0
