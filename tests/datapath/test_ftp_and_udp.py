"""FTP control and data connections through NAT; UDP with and without one-packet scheduling (worked examples of the datapath specification)."""

import pytest
from tests.lab import VIP, Lab

from ipvs_model.apps import Ftp
from ipvs_model.conn import del_conn
from ipvs_model.events import ConnRemoved
from ipvs_model.flags import IP_VS_CONN_F_NO_CPORT, PKT_HAS_CT
from ipvs_model.packet import Packet


@pytest.fixture
def ftp() -> Lab:
    """An FTP service with its helper and one established control connection."""
    lab = Lab(plugins=(Ftp(),))
    lab.service("rr", "A:21", port=21)
    lab.client("S", bits=PKT_HAS_CT).goes_to("A", 21)
    lab.server("A", "SA", bits=PKT_HAS_CT).leaves_from(VIP, 21)
    lab.client("A", bits=PKT_HAS_CT).state("ESTABLISHED", 900)
    return lab


def test_active_transfer_is_expected_before_the_server_begins_it(ftp):
    control = ftp.conn()
    said = ftp.client("PA", payload=b"PORT 203,0,113,5,200,10\r\n", bits=PKT_HAS_CT).goes_to("A")
    assert said.packet.length == 65 and said.left.length == 65
    data = ftp.conn(51210)
    assert (str(data.key()), data.state_name, data.control is control, control.n_control) == (
        "TCP 203.0.113.5:51210 -> 192.0.2.1:20 -> 10.1.0.11:20", "LISTEN", True, 1,
    )  # fmt: skip
    assert (data.timeout, data.refcnt, control.refcnt) == (120 * ftp.hz, 1, 1)
    ftp.counts("A", 1, 1)
    ftp.server("A", "S", 51210, port=20, bits=PKT_HAS_CT).leaves_from(VIP, 20).state("LISTEN", 120)
    ftp.client("SA", 51210, vport=20, bits=PKT_HAS_CT).goes_to("A", 20).state("SYN_RECV", 60).counts("A", 2, 0)
    ftp.server("A", "A", 51210, port=20, bits=PKT_HAS_CT).leaves_from(VIP, 20).state("ESTABLISHED", 900)
    assert ftp.ns.tot_stats.conns == 1, "data connections are not counted as connections"


def test_passive_transfer_waits_for_the_clients_port(ftp):
    control = ftp.conn()
    ftp.client("PA", payload=b"PASV\r\n", bits=PKT_HAS_CT).goes_to("A")
    said = ftp.server("A", "PA", payload=b"227 Entering Passive Mode (10,1,0,11,195,80)\r\n", bits=PKT_HAS_CT).leaves_from(VIP, 21)
    assert said.left.payload == b"227 Entering Passive Mode (192,0,2,1,195,80)\r\n"
    assert (said.packet.length, said.left.length) == (86, 86)
    data = ftp.conn(0)
    assert (str(data.key()), data.state_name, ftp.ns.no_cport_count) == ("TCP 203.0.113.5:0 -> 192.0.2.1:50000 -> 10.1.0.11:50000", "LISTEN", 1)
    assert (data.refcnt, control.refcnt, control.n_control) == (1, 1, 1)
    ftp.client("S", 40100, vport=50000, bits=PKT_HAS_CT).goes_to("A", 50000).state("SYN_RECV", 60)
    assert ftp.conn(40100) is data
    assert (data.refcnt, ftp.ns.no_cport_count, data.flags & IP_VS_CONN_F_NO_CPORT) == (1, 0, 0)


def test_passive_reply_that_grows_is_counted_with_its_new_length():
    lab = Lab(plugins=(Ftp(),))
    lab.service("rr", "A:21", address="192.0.2.100", port=21)
    say = {"vip": "192.0.2.100", "bits": PKT_HAS_CT}
    lab.client("S", **say).goes_to("A")
    lab.server("A", "SA", bits=PKT_HAS_CT)
    lab.client("A", **say)
    lab.client("PA", payload=b"PASV\r\n", **say)
    before = lab.ns.tot_stats.outbytes
    said = lab.server("A", "PA", payload=b"227 Entering Passive Mode (10,1,0,11,195,80)\r\n", bits=PKT_HAS_CT)
    assert (said.left.length, lab.ns.tot_stats.outbytes - before) == (88, 88)


def test_extended_passive_reply_keeps_its_text(ftp):
    ftp.client("PA", payload=b"EPSV\r\n", bits=PKT_HAS_CT)
    text = b"229 Entering Extended Passive Mode (|||50010|)\r\n"
    assert ftp.server("A", "PA", payload=text, bits=PKT_HAS_CT).left.payload == text
    assert str(ftp.conn(0).key()) == "TCP 203.0.113.5:0 -> 192.0.2.1:50010 -> 10.1.0.11:50010"


def test_control_connection_with_data_is_not_replaced_by_a_new_one_but_hidden(ftp):
    ftp.add("B:21")
    ftp.client("PA", payload=b"PORT 203,0,113,5,200,10\r\n", bits=PKT_HAS_CT)
    old = ftp.conn()
    ftp.server("A", "FA", bits=PKT_HAS_CT)
    ftp.client("FA", bits=PKT_HAS_CT).state("TIME_WAIT", 120)
    ftp.client("S", bits=PKT_HAS_CT).goes_to("B", 21)
    assert ftp.conn() is not old and old.is_hashed and old.expires > ftp.clock.now
    ftp.wait(2)
    assert old.is_hashed, "it controls a data connection, so it was not let go"


def test_removed_data_connection_takes_its_control_connection_along_but_not_an_assured_template():
    lab = Lab(plugins=(Ftp(),), timers="exact")
    lab.service("rr", "A:21", port=21, persistent=100)
    lab.client("S", bits=PKT_HAS_CT)
    lab.client("PA", payload=b"PORT 203,0,113,5,200,10\r\n", bits=PKT_HAS_CT).state("ESTABLISHED")
    (ct,) = lab.templates
    expires = ct.expires
    gone = []
    lab.ipvs.subscribe(lambda event: gone.append(event.conn.client & 0xFFFF) if isinstance(event, ConnRemoved) else None)
    del_conn(lab.conn(51210))
    assert gone == [40000, 51210]
    assert (lab.templates, ct.state_name, ct.expires, ct.n_control, ct.refcnt) == ([ct], "ASSURED", expires, 0, 1)
    lab.counts("A", 0, 0, 1)


# --- UDP ---


def test_one_packet_scheduling_schedules_each_packet(lab):
    lab.service("rr", "A:53", "B:53", protocol="udp", port=53, one_packet=True)
    lab.client(sport=5000, payload=b"query").goes_to("B", 53).no_conn().counts("B", 0, 0).totals(1, 1, 0, 33, 0)
    lab.client(sport=5000, payload=b"query").goes_to("A", 53).no_conn().counts("A", 0, 0).totals(2, 2, 0, 66, 0)
    lab.server("B", sport=5000, payload=b"reply").leaves_untranslated().totals(2, 2, 0, 66, 0)
    assert lab.table == [] and lab.ns.conn_count == 0


def test_one_packet_children_count_on_their_template(lab):
    lab.service("rr", "A:53", "B:53", protocol="udp", port=53, one_packet=True, persistent=60)
    for packets in (1, 2, 3):
        lab.client(sport=5000, payload=b"query").goes_to("B").counts("B", 0, 0, 1)
        (ct,) = lab.templates
        assert (str(ct.key()), ct.in_pkts, ct.n_control) == ("UDP 203.0.113.5:0 -> 192.0.2.1:53 -> 10.1.0.12:53", packets, 0)


def test_udp_connection_is_never_active(lab):
    lab.service("rr", "A:5353", protocol="udp", port=53)
    lab.client(sport=5000, payload=b"query").goes_to("A", 5353).state("UDP", 300).counts("A", 0, 1)
    lab.server("A", sport=5000, payload=b"reply").leaves_from(VIP, 53).state("UDP", 300).counts("A", 0, 1)


@pytest.mark.parametrize(
    ("server", "checksum", "before", "after"),
    [
        ("A:53", True, "9e27", "561d"),
        ("A:5353", False, "0000", "4169"),
    ],
)
def test_udp_checksum_is_updated_or_computed(lab, server, checksum, before, after):
    lab.service("rr", server, protocol="udp", port=53)
    said = lab.client(sport=5000, payload=b"query", checksum=checksum)
    assert (said.packet.l4_bytes[6:8].hex(), said.left.l4_bytes[6:8].hex()) == (before, after)


def test_datagram_shorter_than_its_header_is_dropped(lab):
    lab.service("rr", "A", protocol="udp", port=53)
    lab.says(Packet.ip("203.0.113.5", VIP, 17, b"\x00\x01\x00\x35\x00\x08\x00", device="cli")).dropped("short header")


def test_udp_reply_assures_the_template(lab):
    lab.service("rr", "A:53", protocol="udp", port=53, persistent=60)
    lab.client(payload=b"query")
    assert lab.templates[0].state_name == "NONE"
    lab.server("A", payload=b"reply")
    assert lab.templates[0].state_name == "ASSURED"
