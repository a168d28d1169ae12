"""The FTP helper on the packets of control and data connections (spec/60 sections 6 and 7)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.apps.lab import Lab

from ipvs_model.apps import Ftp
from ipvs_model.apps.base import check
from ipvs_model.apps.ftp_text import FtpMode
from ipvs_model.flags import (
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_NO_CPORT,
    PKT_HAS_CT,
    PKT_PARTIAL,
)
from ipvs_model.packet import Packet, complete, transport_csum_ok

CLIENT, VIP, SERVER = "172.16.0.5:3000", "192.168.100.1:21", "10.1.0.11:21"
CLIENT6, VIP6, SERVER6 = "[2001:db8:9::5]:3000", "[2001:db8:2::1]:21", "[2001:db8:1::11]:21"
PASSIVE = b"227 Entering Passive Mode (10,1,0,11,195,80)."


class Session:
    """A control connection: handshake done, numbers 1001 and 5001 next."""

    def __init__(self, lab: Lab, client: str = CLIENT, vip: str = VIP, server: str = SERVER) -> None:
        self.lab = lab
        self.ends = client, vip, server
        lab.client(Packet.tcp(client, vip, "S", seq=1000))
        lab.server(Packet.tcp(server, client, "SA", seq=5000, ack=1001))
        lab.client(Packet.tcp(client, vip, "A", seq=1001, ack=5001))
        self.cp = lab.conn(client)

    def request(self, payload: bytes, seq: int = 1001, ack: int = 5001, **more: Any) -> Packet | None:
        client, vip, _ = self.ends
        out: Packet | None = self.lab.client(Packet.tcp(client, vip, "PA", seq=seq, ack=ack, payload=payload, **more))
        return out

    def reply(self, payload: bytes, seq: int = 5001, ack: int = 1001, **more: Any) -> Packet | None:
        client, _, server = self.ends
        out: Packet | None = self.lab.server(Packet.tcp(server, client, "PA", seq=seq, ack=ack, payload=payload, **more))
        return out

    def data(self) -> list[str]:
        """The data connections."""
        return [text for text in self.lab.conns() if not text.startswith(self.ends[0] + " ")]


@pytest.fixture
def ftp(lab: Lab) -> Lab:
    lab.apps.register(Ftp)
    return lab


@pytest.fixture
def control(ftp: Lab) -> Session:
    ftp.service(VIP, SERVER)
    return Session(ftp)


@pytest.fixture
def control6(ftp: Lab) -> Session:
    ftp.service(VIP6, SERVER6)
    return Session(ftp, CLIENT6, VIP6, SERVER6)


def sent(pkt: Packet | None) -> tuple[int, int, bytes]:
    """Numbers and payload of what left, which must be a right packet."""
    assert pkt is not None and transport_csum_ok(pkt)
    return pkt.seq, pkt.ack, pkt.payload


# --- the worked example -------------------------------------------------------------------------------------------------


def test_worked_example(control: Session) -> None:
    lab = control.lab
    assert sent(control.request(b"PASV\r\n"))[2] == b"PASV\r\n"
    assert control.cp.app_data == FtpMode.PASV
    assert sent(control.reply(PASSIVE)) == (5001, 1001, b"227 Entering Passive Mode (192,168,100,1,195,80).")
    assert control.cp.app_data == FtpMode.ACTIVE
    assert control.data() == ["172.16.0.5:0 -> 192.168.100.1:50000 -> 10.1.0.11:50000 LISTEN"]
    assert sent(control.request(b"", seq=1007, ack=5100)) == (1007, 5096, b"")
    assert sent(control.reply(PASSIVE)) == (5001, 1001, PASSIVE), "a retransmission passes unchanged"
    assert sent(control.reply(b"150 ok\r\n", seq=5049))[0] == 5053
    assert sent(control.request(b"", seq=1007, ack=5053))[1] == 5049
    first = lab.client(Packet.tcp("172.16.0.5:3001", "192.168.100.1:50000", "S"))
    assert (first.src, first.dst) == (Packet.tcp("172.16.0.5:3001", "10.1.0.11:50000").src, Packet.tcp("172.16.0.5:3001", "10.1.0.11:50000").dst)
    assert control.data() == ["172.16.0.5:3001 -> 192.168.100.1:50000 -> 10.1.0.11:50000 SYN_RECV"]
    control.request(b"epsv\r\n", seq=1007, ack=5062)
    before = control.cp.dest.stats.outbytes
    out = control.reply(b"229 Entering Extended Passive Mode (!1!10.1.0.12!50001!)\r\n", seq=5058)
    assert sent(out) == (5062, 1001, b"229 Entering Extended Passive Mode (|||50001|)\r\n")
    assert control.cp.dest.stats.outbytes - before == 40 + len(b"229 Entering Extended Passive Mode (|||50001|)\r\n"), "the rewritten length counts"
    assert control.data()[0] == "172.16.0.5:0 -> 192.168.100.1:50001 -> 10.1.0.12:50001 LISTEN"
    check(lab.ns)


# --- data connections ---------------------------------------------------------------------------------------------------


def test_passive_data_connection(control: Session) -> None:
    control.request(b"PASV\r\n", mark=7)
    control.reply(PASSIVE, mark=8)
    data = control.lab.conn("172.16.0.5:0")
    assert data.flags == IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_NFCT | IP_VS_CONN_F_INACTIVE | IP_VS_CONN_F_HASHED
    assert (data.control, control.cp.n_control, data.dest, data.app) == (control.cp, 1, control.cp.dest, None)
    assert (data.fwmark, data.timeout, data.refcnt) == (8, 120 * 250, 1)
    assert (control.cp.dest.stats.conns, control.cp.dest.totalconns, control.cp.dest.activeconns) == (1, 2, 1)
    assert control.lab.ns.no_cport_count == 1


def test_active_data_connection(control: Session) -> None:
    lab = control.lab
    request = b"PORT 172,16,0,5,1,1\r\n"
    assert sent(control.request(request, mark=9))[2] == request
    assert control.data() == ["172.16.0.5:257 -> 192.168.100.1:20 -> 10.1.0.11:20 LISTEN"]
    data = lab.conn("172.16.0.5:257")
    assert data.flags == IP_VS_CONN_F_NFCT | IP_VS_CONN_F_INACTIVE | IP_VS_CONN_F_HASHED
    assert (data.control, data.fwmark, data.timeout) == (control.cp, 9, 120 * 250)
    syn = lab.server(Packet.tcp("10.1.0.11:20", "172.16.0.5:257", "S"))
    assert syn.src == Packet.tcp("192.168.100.1:20", "172.16.0.5:257").src and data.state_name == "LISTEN"
    lab.client(Packet.tcp("172.16.0.5:257", "192.168.100.1:20", "SA"))
    assert data.state_name == "SYN_RECV"
    lab.server(Packet.tcp("10.1.0.11:20", "172.16.0.5:257", "A"))
    assert data.state_name == "ESTABLISHED"


def test_ports_minus_one_wrap(ftp: Lab) -> None:
    ftp.apps.unregister("ftp")
    ftp.apps.register(Ftp(ports=[2121]))
    ftp.service("192.168.100.1:2121", "10.1.0.11:65535")
    control = Session(ftp, CLIENT, "192.168.100.1:2121", "10.1.0.11:65535")
    control.request(b"PORT 172,16,0,5,1,1\r\n")
    assert control.data() == ["172.16.0.5:257 -> 192.168.100.1:2120 -> 10.1.0.11:65534 LISTEN"]
    control.cp.virt = control.cp.virt >> 16 << 16
    control.cp.real = control.cp.real >> 16 << 16
    ftp.apps.applications[0].app.pkt_in(control.cp, Packet.tcp(CLIENT, VIP, "PA", payload=b"PORT 172,16,0,5,1,2\r\n"))
    assert control.data()[1] == "172.16.0.5:258 -> 192.168.100.1:65535 -> 10.1.0.11:65535 LISTEN"


def test_an_existing_entry_only_listens_again(control: Session) -> None:
    lab = control.lab
    control.request(b"PORT 172,16,0,5,1,1\r\n")
    lab.client(Packet.tcp("172.16.0.5:257", "192.168.100.1:20", "SA"))
    active = control.cp.dest.activeconns
    control.request(b"PORT 172,16,0,5,1,1\r\n", seq=1022)
    assert control.data() == ["172.16.0.5:257 -> 192.168.100.1:20 -> 10.1.0.11:20 LISTEN"]
    assert control.cp.dest.activeconns == active and control.cp.n_control == 1


def test_a_waiting_passive_entry_is_found_again(control: Session) -> None:
    for seq in (5001, 5101):
        control.request(b"PASV\r\n")
        control.reply(PASSIVE, seq=seq)
    assert len(control.data()) == 1 and control.cp.n_control == 1


def test_an_announced_address_is_believed(control: Session) -> None:
    control.request(b"PORT 9,9,9,9,1,9\r\n")
    control.request(b"PASV\r\n")
    control.reply(b"227 (10,1,0,99,195,80)")
    assert control.data() == [
        "172.16.0.5:0 -> 192.168.100.1:50000 -> 10.1.0.99:50000 LISTEN",
        "9.9.9.9:265 -> 192.168.100.1:20 -> 10.1.0.11:20 LISTEN",
    ]
    assert control.cp.dest.totalconns == 3


def test_port_0_makes_an_entry_that_nobody_finds(control: Session) -> None:
    lab = control.lab
    control.request(b"PORT 172,16,0,5,0,0\r\n")
    assert control.data() == ["172.16.0.5:0 -> 192.168.100.1:20 -> 10.1.0.11:20 LISTEN"]
    assert not lab.conn("172.16.0.5:0").flags & IP_VS_CONN_F_NO_CPORT
    assert lab.ns.conns.in_get(2, 6, lab.conn("172.16.0.5:0").client, lab.conn("172.16.0.5:0").virt) is None


def test_the_control_connection_outlives_its_data_connections(control: Session) -> None:
    lab = control.lab
    control.request(b"PORT 172,16,0,5,1,1\r\n")
    lab.client(Packet.tcp(CLIENT, VIP, "R"))
    lab.ns.clock.advance(seconds=30)
    assert control.cp.is_hashed
    lab.ns.clock.advance(seconds=300)
    assert lab.conns() == []


# --- when nothing happens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"PASV\r\n", b"EPSV\r\n", b"PORT 172,16,0,5,1,1\r\n", b"EPRT |1|172.16.0.5|257|\r\n"])
def test_only_an_established_control_connection_is_read(control: Session, payload: bytes) -> None:
    control.lab.client(Packet.tcp(CLIENT, VIP, "FA", seq=1001, payload=payload))
    assert control.cp.state_name == "CLOSE_WAIT" and control.cp.app_data == 0 and control.data() == []


def test_a_reply_is_read_in_the_state_before_it(control: Session) -> None:
    control.request(b"PASV\r\n")
    control.lab.server(Packet.tcp(SERVER, CLIENT, "FA", seq=5001, payload=PASSIVE))
    assert control.cp.state_name == "FIN_WAIT" and len(control.data()) == 1


def test_nothing_is_read_behind_a_header_length_below_5(control: Session) -> None:
    pkt = Packet.tcp(CLIENT, VIP, "PA", payload=b"PASV\r\n", device="cli")
    segment = bytearray(pkt.l4_bytes)
    segment[12] = 0x40
    pkt = pkt.with_raw(pkt.raw[:20] + bytes(segment))
    assert control.cp.app.packet_in(control.cp, pkt) == (1, pkt) and control.cp.app_data == 0


def test_a_reply_that_nobody_asked_for_passes(control: Session) -> None:
    assert sent(control.reply(PASSIVE))[2] == PASSIVE and control.data() == []


def test_mode_waits_for_its_reply(control: Session) -> None:
    control.request(b"PASV\r\n")
    assert sent(control.reply(b"220 hello\r\n227 (10,1,0,11,195,80)\r\n"))[2].endswith(b"(10,1,0,11,195,80)\r\n")
    assert sent(control.reply(b"229 (|||5|)"))[2] == b"229 (|||5|)"
    assert control.cp.app_data == FtpMode.PASV
    control.request(b"EPSV 1\r\n")
    assert control.cp.app_data == FtpMode.EPSV
    control.request(b"EPSV ALL\r\n")
    assert control.cp.app_data == FtpMode.EPSV
    control.request(b"QUIT\r\n")
    assert control.cp.app_data == FtpMode.EPSV
    control.request(b"PORT 172,16,0,5,1,1\r\n")
    assert control.cp.app_data == FtpMode.ACTIVE


def test_pasv_wins_over_port_in_one_segment(control: Session) -> None:
    control.request(b"PORT 172,16,0,5,1,1\r\nPASV\r\n")
    assert control.cp.app_data == FtpMode.PASV and control.data() == []


# --- conntrack ----------------------------------------------------------------------------------------------------------


def test_without_conntrack_the_reply_is_dropped_once(control: Session) -> None:
    control.lab.tracked = False
    control.request(b"PASV\r\n")
    assert control.reply(PASSIVE) is None
    assert control.cp.app_data == FtpMode.ACTIVE and len(control.data()) == 1
    assert sent(control.reply(PASSIVE))[2] == PASSIVE
    control.request(b"PORT 172,16,0,5,1,1\r\n")
    assert len(control.data()) == 2, "active mode needs no conntrack"


def test_a_packet_may_bring_its_conntrack(control: Session) -> None:
    control.lab.tracked = False
    control.request(b"PASV\r\n")
    assert sent(control.reply(PASSIVE, bits=PKT_HAS_CT))[2] != PASSIVE
    assert sent(control.reply(b"x", seq=5049))[0] == 5049, "without an entry nothing is shifted"
    assert sent(control.reply(b"x", seq=5049, bits=PKT_HAS_CT))[0] == 5053


def test_a_reply_that_would_not_fit_is_dropped(control: Session) -> None:
    control.request(b"PASV\r\n")
    full = PASSIVE + b"x" * (65535 - 40 - len(PASSIVE))
    assert control.reply(full) is None and len(control.data()) == 1
    control.request(b"PASV\r\n")
    assert sent(control.reply(full[:-4]))[2] == PASSIVE.replace(b"10,1,0,11", b"192,168,100,1") + full[len(PASSIVE) : -4]


def test_a_text_of_the_same_length_shifts_nothing(ftp: Lab) -> None:
    ftp.service("10.9.0.1:21", SERVER)
    control = Session(ftp, CLIENT, "10.9.0.1:21")
    control.request(b"EPSV\r\n")
    assert sent(control.reply(b"229 (|||50001|)")) == (5001, 1001, b"229 (|||50001|)")
    assert control.cp.seqadj is None


def test_a_partial_checksum_stays_partial(control: Session) -> None:
    control.request(b"PASV\r\n")
    pkt = Packet.tcp(SERVER, CLIENT, "PA", seq=5001, payload=PASSIVE)
    segment = bytearray(pkt.l4_bytes)
    total = (pkt.saddr + pkt.daddr + 6 + len(segment)) % 65535
    segment[16:18] = total.to_bytes(2, "big")
    pkt = pkt.with_raw(pkt.raw[:20] + bytes(segment))
    pkt.bits |= PKT_PARTIAL
    out = control.lab.server(pkt)
    assert out.bits & PKT_PARTIAL and transport_csum_ok(complete(out))
    assert out.payload == b"227 Entering Passive Mode (192,168,100,1,195,80)."


def test_unreadable_options_of_a_shifted_stream_drop_the_packet(control: Session) -> None:
    control.request(b"PASV\r\n")
    control.reply(PASSIVE)
    assert control.request(b"", seq=1007, ack=5100, options=b"\x01\x01\x01\x05") is None


# --- IPv6 ---------------------------------------------------------------------------------------------------------------


def test_ipv6_passive(control6: Session) -> None:
    control6.request(b"PASV\r\n")
    assert control6.cp.app_data == FtpMode.ACTIVE
    control6.request(b"EPSV 2\r\n")
    assert sent(control6.reply(b"229 ok (|2|2001:db8:1::12|50001|)\r\n"))[2] == b"229 ok (|||50001|)\r\n"
    control6.request(b"EPSV\r\n", seq=1009)
    assert sent(control6.reply(b"229 ok (|||50002|)\r\n", seq=5036))[0] == 5021
    assert control6.data() == [
        "[2001:db8:9::5]:0 -> [2001:db8:2::1]:50001 -> [2001:db8:1::12]:50001 LISTEN",
        "[2001:db8:9::5]:0 -> [2001:db8:2::1]:50002 -> [2001:db8:1::11]:50002 LISTEN",
    ]


def test_ipv6_active(control6: Session) -> None:
    control6.request(b"PORT 172,16,0,5,1,1\r\n")
    control6.request(b"EPRT |2|2001:db8:9::5|257|\r\n")
    assert control6.data() == ["[2001:db8:9::5]:257 -> [2001:db8:2::1]:20 -> [2001:db8:1::11]:20 LISTEN"]


# --- the module ---------------------------------------------------------------------------------------------------------


def test_a_persistent_service_on_another_helped_port_counts_its_template(lab: Lab) -> None:
    lab.apps.register(Ftp(ports=[0, 2121, 21]))
    lab.service("192.168.100.1:2121", SERVER, persistent=True)
    lab.client(Packet.tcp(CLIENT, "192.168.100.1:2121"))
    assert lab.ns.protocols[6].apps[2121].usecnt == 2
    assert all(cp.flags & IP_VS_CONN_F_NFCT for cp in lab.ns.conns)


def test_a_persistent_service_on_port_21_has_an_unbound_template(ftp: Lab) -> None:
    ftp.service(VIP, SERVER, persistent=True)
    ftp.client(Packet.tcp(CLIENT, VIP))
    assert ftp.ns.protocols[6].apps[21].usecnt == 1


@pytest.mark.parametrize("ports", [range(1, 10), [65536], [-1]])
def test_impossible_ports(ports: Any) -> None:
    with pytest.raises(ValueError, match="ports"):
        Ftp(ports=ports)
