"""The framework of helpers: registration, binding, hooks, shifted streams (spec/60 sections 1 to 5)."""

from __future__ import annotations

import copy
import errno
from typing import Any

import pytest
from tests.apps.lab import Lab

from ipvs_model.apps import App, AppRegistry, Ftp, HookResult, incarnations
from ipvs_model.apps.base import FIELDS, check
from ipvs_model.conn import Conn, ConnParam, Seq, new_conn
from ipvs_model.errors import IPVSError
from ipvs_model.fields import names
from ipvs_model.flags import IP_VS_CONN_F_IN_SEQ, IP_VS_CONN_F_OUT_SEQ, IP_VS_CONN_F_TEMPLATE
from ipvs_model.packet import Packet

CLIENT, VIP, SERVER = "172.16.0.5:3000", "192.168.100.1:7", "10.1.0.11:7"


class Echo(App):
    """A helper that notes what happens to it and answers as it is told."""

    name = "echo"
    ports = (7,)

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answer: tuple[int, int] = (1, 0)

    def init_conn(self, cp: Conn) -> None:
        self.seen.append("init")

    def unbind_conn(self, cp: Conn) -> None:
        self.seen.append("unbind")

    def done_conn(self, cp: Conn) -> None:
        self.seen.append("done")

    def pkt_in(self, cp: Conn, pkt: Packet) -> HookResult:
        self.seen.append(f"in {cp.state_name}")
        return HookResult(self.answer[0], pkt, self.answer[1])

    def pkt_out(self, cp: Conn, pkt: Packet) -> HookResult:
        self.seen.append(f"out {cp.state_name}")
        return HookResult(self.answer[0], pkt, self.answer[1])


class UdpEcho(Echo):
    name = "udp-echo"
    protocol = 17


def refusal(call: Any, *args: Any) -> int:
    with pytest.raises(IPVSError) as refused:
        call(*args)
    assert refused.value.errno is not None
    return refused.value.errno


def listing(registry: AppRegistry) -> list[tuple[int, int, str]]:
    return [(inc.port, inc.usecnt, inc.app.name) for inc in incarnations(registry.ns)]


@pytest.fixture
def echo(lab: Lab) -> Echo:
    app = Echo()
    lab.apps.register(app)
    return app


@pytest.fixture
def served(lab: Lab, echo: Echo) -> Lab:
    """A lab with one connection through the helper."""
    lab.service(VIP, SERVER)
    lab.client(Packet.tcp(CLIENT, VIP, "S", seq=1000))
    return lab


# --- registration -------------------------------------------------------------------------------------------------------


def test_listing_is_newest_first_in_and_among_applications(lab: Lab) -> None:
    lab.apps.register(Ftp(ports=[0, 2121, 21]))
    lab.apps.register(Echo)
    assert listing(lab.apps) == [(7, 0, "echo"), (21, 0, "ftp"), (2121, 0, "ftp")]


def test_an_application_is_registered_once(lab: Lab, echo: Echo) -> None:
    assert refusal(lab.apps.register, Echo) == errno.EEXIST


def test_a_port_twice_leaves_nothing_registered(lab: Lab) -> None:
    assert refusal(lab.apps.register, Ftp(ports=[21, 21])) == errno.EEXIST
    assert listing(lab.apps) == [] and lab.ns.protocols[6].appcnt == 0
    lab.apps.register(Ftp)
    assert lab.ns.protocols[6].appcnt == 1


def test_a_port_belongs_to_one_application_of_a_protocol(lab: Lab, echo: Echo) -> None:
    assert refusal(lab.apps.register, Ftp(ports=[7])) == errno.EEXIST
    lab.apps.register(UdpEcho)
    assert (lab.ns.protocols[6].appcnt, lab.ns.protocols[17].appcnt) == (1, 1)


@pytest.mark.parametrize(("protocol", "code"), [(1, errno.EPROTONOSUPPORT), (50, errno.EOPNOTSUPP), (51, errno.EOPNOTSUPP)])
def test_protocols_without_applications(lab: Lab, protocol: int, code: int) -> None:
    application = lab.apps.register_app(Echo())
    assert refusal(lab.apps.register_inc, application, protocol, 7) == code


def test_what_is_no_application(lab: Lab) -> None:
    assert refusal(lab.apps.register, App()) == errno.EINVAL
    many = Echo()
    many.ports = tuple(range(1, 10))
    assert refusal(lab.apps.register, many) == errno.EINVAL


def test_unregister(served: Lab) -> None:
    assert refusal(served.apps.unregister, "echo") == errno.EAGAIN
    served.ns.clock.advance(seconds=120)
    served.apps.unregister("echo")
    assert listing(served.apps) == [] and served.ns.protocols[6].appcnt == 0
    assert refusal(served.apps.unregister, "echo") == errno.ENOENT


# --- binding ------------------------------------------------------------------------------------------------------------


def test_a_connection_is_bound_from_creation_to_expiry(served: Lab, echo: Echo) -> None:
    cp = served.conn(CLIENT)
    assert cp.app is not None and repr(cp.app) == "<app echo port 7 usecnt 1>" and repr(echo) == "<app echo>"
    cp.app_data = 3
    served.ns.clock.advance(seconds=120)
    assert echo.seen == ["init", "in SYN_RECV", "unbind", "done"]
    assert listing(served.apps) == [(7, 0, "echo")] and cp.app is None and cp.app_data == 3


def test_the_virtual_port_decides(lab: Lab, echo: Echo) -> None:
    lab.service("192.168.100.1:8", "10.1.0.11:7")
    lab.client(Packet.tcp(CLIENT, "192.168.100.1:8"))
    assert lab.conn(CLIENT).app is None


def test_only_nat(lab: Lab, echo: Echo) -> None:
    lab.service(VIP, SERVER, method=3)
    lab.client(Packet.tcp(CLIENT, VIP))
    assert lab.conn(CLIENT).app is None


def test_another_protocol_has_its_own_ports(lab: Lab, echo: Echo) -> None:
    lab.apps.register(Ftp(ports=[1]))
    lab.service(VIP, SERVER, protocol=17)
    lab.client(Packet.udp(CLIENT, VIP))
    assert lab.conn(CLIENT).app is None


def test_a_template_on_a_helped_port_is_bound_too(lab: Lab, echo: Echo) -> None:
    lab.service(VIP, SERVER, persistent=True)
    lab.client(Packet.tcp(CLIENT, VIP))
    assert listing(lab.apps) == [(7, 2, "echo")]


def test_unbinding_what_is_not_bound_is_nothing(lab: Lab) -> None:
    cp = new_conn(lab.ns, ConnParam(2, 6, 1, 2), 2, 3, IP_VS_CONN_F_TEMPLATE, None, 0)
    lab.apps.bind(cp)
    lab.apps.unbind(cp)
    assert cp.app is None


# --- hooks --------------------------------------------------------------------------------------------------------------


def test_a_request_is_seen_after_its_state_change_and_a_reply_before(served: Lab, echo: Echo) -> None:
    served.server(Packet.tcp(SERVER, CLIENT, "SA"))
    served.client(Packet.tcp(CLIENT, VIP, "A"))
    served.server(Packet.tcp(SERVER, CLIENT, "FA"))
    assert echo.seen == ["init", "in SYN_RECV", "out SYN_RECV", "in ESTABLISHED", "out ESTABLISHED"]


def test_result_0_drops(served: Lab, echo: Echo) -> None:
    echo.answer = (0, 5)
    cp = served.conn(CLIENT)
    before = cp.in_pkts, cp.dest.stats.outpkts
    assert served.client(Packet.tcp(CLIENT, VIP, "A")) is None
    assert cp.state_name == "ESTABLISHED" and cp.in_pkts == before[0] + 1
    assert served.server(Packet.tcp(SERVER, CLIENT, "FA")) is None
    assert cp.state_name == "ESTABLISHED" and cp.dest.stats.outpkts == before[1]
    assert not cp.flags & (IP_VS_CONN_F_IN_SEQ | IP_VS_CONN_F_OUT_SEQ)


def test_a_wrong_checksum_never_reaches_the_helper(served: Lab, echo: Echo) -> None:
    raw = Packet.tcp(CLIENT, VIP, "A").raw
    assert served.client(Packet.parse(raw[:-1] + b"\x01")) is None
    assert echo.seen == ["init", "in SYN_RECV"]


def test_tcp_knows_no_result_2_and_udp_passes_it_on(lab: Lab, echo: Echo) -> None:
    udp_echo = UdpEcho()
    lab.apps.register(udp_echo)
    echo.answer = udp_echo.answer = (2, 0)
    lab.service(VIP, SERVER)
    lab.service(VIP, SERVER, protocol=17)
    tcp, udp = Packet.tcp(CLIENT, VIP), Packet.udp("172.16.0.5:3001", VIP)
    lab.client(tcp)
    lab.client(udp)
    tcp_conn, udp_conn = lab.conn(CLIENT), lab.conn("172.16.0.5:3001")
    assert (tcp_conn.app.packet_in(tcp_conn, tcp)[0], tcp_conn.app.packet_out(tcp_conn, tcp)[0]) == (1, 1)
    assert (udp_conn.app.packet_in(udp_conn, udp)[0], udp_conn.app.packet_out(udp_conn, udp)[0]) == (2, 2)


def test_a_helper_without_hooks_changes_nothing(lab: Lab) -> None:
    class Quiet(App):
        name = "quiet"
        ports = (7,)

    lab.apps.register(Quiet)
    lab.service(VIP, SERVER)
    syn = Packet.tcp(CLIENT, VIP)
    lab.client(syn)
    cp = lab.conn(CLIENT)
    assert cp.app.packet_in(cp, syn) == cp.app.packet_out(cp, syn) == (1, syn)


# --- shifted streams ----------------------------------------------------------------------------------------------------


def test_too_short_for_a_header_is_dropped(served: Lab) -> None:
    cp = served.conn(CLIENT)
    assert cp.app.packet_in(cp, Packet.parse(Packet.tcp(CLIENT, VIP).raw[:32])) [0] == 0


def test_a_resized_reply_shifts_both_directions(served: Lab, echo: Echo) -> None:
    cp = served.conn(CLIENT)

    def reply(seq: int, ack: int = 1001, diff: int = 0) -> tuple[int, int]:
        echo.answer = (1, diff)
        _, pkt = cp.app.packet_out(cp, Packet.tcp(SERVER, CLIENT, "A", seq=seq, ack=ack))
        return pkt.seq, pkt.ack

    def request(seq: int, ack: int) -> tuple[int, int]:
        echo.answer = (1, 0)
        _, pkt = cp.app.packet_in(cp, Packet.tcp(CLIENT, VIP, "A", seq=seq, ack=ack))
        return pkt.seq, pkt.ack

    assert reply(5001, diff=4) == (5001, 1001) and cp.flags & IP_VS_CONN_F_OUT_SEQ and cp.out_seq == Seq(5001, 4, 0)
    assert reply(5001, diff=4) == (5001, 1001) and cp.out_seq == Seq(5001, 4, 0), "a retransmission"
    assert (reply(5002), reply(4990)) == ((5006, 1001), (4990, 1001))
    assert (request(1001, 5005), request(1001, 5006), request(1001, 5052)) == ((1001, 5005), (1001, 5002), (1001, 5048))
    assert reply(6000, diff=-7)[0] == 6004 and cp.out_seq == Seq(6000, 0xFFFFFFFD, 4)
    assert (reply(5500)[0], reply(6000)[0], reply(6001)[0]) == (5504, 6004, 5998)
    assert not cp.flags & IP_VS_CONN_F_IN_SEQ


def test_a_resized_request_shifts_the_other_way_round(served: Lab, echo: Echo) -> None:
    cp = served.conn(CLIENT)
    echo.answer = (1, 3)
    cp.app.packet_in(cp, Packet.tcp(CLIENT, VIP, "A", seq=100, ack=1))
    echo.answer = (1, 0)
    assert cp.flags & IP_VS_CONN_F_IN_SEQ and cp.in_seq == Seq(100, 3, 0)
    assert cp.app.packet_in(cp, Packet.tcp(CLIENT, VIP, "A", seq=101, ack=1))[1].seq == 104
    assert cp.app.packet_out(cp, Packet.tcp(SERVER, CLIENT, "A", seq=1, ack=104))[1].ack == 101


def test_the_checksum_does_not_follow_the_numbers(served: Lab) -> None:
    cp = served.conn(CLIENT)
    cp.flags |= IP_VS_CONN_F_OUT_SEQ
    cp.out_seq = Seq(100, 4, 0)
    pkt = Packet.tcp(SERVER, CLIENT, "S", seq=200)
    _, shifted = cp.app.packet_out(cp, pkt)
    assert shifted.seq == 204 and shifted.l4_bytes[16:18] == pkt.l4_bytes[16:18]


def test_fields_name_the_members_of_the_kernel() -> None:
    assert {"usecnt", "pkt_out", "timeout_table", "bind_conn"} <= names(FIELDS)


# --- invariants and copies ----------------------------------------------------------------------------------------------


def test_invariants_hold_and_notice(served: Lab) -> None:
    check(served.ns)
    inc = served.ns.protocols[6].apps[7]
    inc.usecnt += 1
    with pytest.raises(AssertionError, match="another number of entries"):
        check(served.ns)
    del served.ns.protocols[6].apps[7]
    with pytest.raises(AssertionError, match="appcnt of TCP is 1"):
        check(served.ns)
    served.ns.protocols[6].appcnt = 0
    with pytest.raises(AssertionError, match="that is gone"):
        check(served.ns)
    inc.port = 8
    served.ns.protocols[6].apps[7] = inc
    served.ns.protocols[6].appcnt = 1
    with pytest.raises(AssertionError, match="another port"):
        check(served.ns)


def test_a_copy_goes_its_own_way(served: Lab, echo: Echo) -> None:
    twin = copy.deepcopy(served)
    twin.client(Packet.tcp("172.16.0.5:3001", VIP))
    assert (listing(served.apps), listing(twin.apps)) == ([(7, 1, "echo")], [(7, 2, "echo")])
    assert len(echo.seen) == 2
    check(twin.ns)
