"""The lines of a debug kernel."""

import pytest

from ipvs_model import IPVS, Packet
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DIR_INPUT, IP_VS_DIR_OUTPUT
from ipvs_model.packet.rewrite import csum_check
from ipvs_model.protocol import packet_text
from ipvs_model.protocols import ESP, PROTOCOLS, SCTP, TCP, UDP

FOUR = Packet.tcp("1.2.3.4:1025", "5.6.7.8:80").raw
SIX = Packet.tcp("[2001:db8::1]:1025", "[2001:db8::2]:80").raw


@pytest.mark.parametrize(
    ("af", "raw", "text"),
    [
        (AF_INET, FOUR, "1.2.3.4:1025->5.6.7.8:80"),
        (AF_INET, FOUR[:19], "TRUNCATED"),
        (AF_INET, FOUR[:23], "TRUNCATED 1.2.3.4->5.6.7.8"),
        (AF_INET, FOUR[:6] + b"\x00\x01" + FOUR[8:], "1.2.3.4->5.6.7.8 frag"),
        (AF_INET6, SIX, "2001:db8::1:1025->2001:db8::2:80"),
        (AF_INET6, SIX[:39], "TRUNCATED"),
        (AF_INET6, SIX[:43], "TRUNCATED 2001:db8::1->2001:db8::2"),
        (AF_INET6, SIX[:6] + b"\x2c" + SIX[7:], "2001:db8::1->2001:db8::2 frag"),
    ],
)
def test_addresses_and_ports(af, raw, text):
    assert packet_text(af, raw, 0) == text


def test_a_packet_inside_another_is_read_at_its_offset():
    assert packet_text(AF_INET, bytes(28) + FOUR, 28) == "1.2.3.4:1025->5.6.7.8:80"


def test_the_line_names_message_and_protocol():
    assert TCP.debug_packet(Packet.parse(FOUR), "Incoming packet") == "IPVS: Incoming packet: TCP 1.2.3.4:1025->5.6.7.8:80"


def test_the_spi_of_esp_is_printed_as_if_it_were_ports():
    packet = Packet.esp("1.2.3.4", "5.6.7.8", spi=0x00010002)
    assert ESP.debug_packet(packet, "Incoming packet") == "IPVS: Incoming packet: ESP 1.2.3.4:1->5.6.7.8:2"


def conn_of(protocol, packet):
    ipvs = IPVS()
    svc = ipvs.add_service(protocol, "192.0.2.1:80", scheduler="rr")
    ipvs.add_dest(svc, "10.1.0.11:8080")
    ipvs.receive(packet)
    return ipvs.conns()[0]


def test_a_tcp_state_change_shows_direction_flags_and_endpoints():
    cp = conn_of("tcp", Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"))
    states = cp.ipvs.protocols[6].states
    ends = "c:203.0.113.7:40000 v:192.0.2.1:80 d:10.1.0.11:8080"
    line = TCP.debug_transition(cp, Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"), IP_VS_DIR_INPUT, states[0], states[3])
    assert line == f"IPVS: TCP input  [S...] {ends} state: NONE->SYN_RECV conn->refcnt:1"
    line = TCP.debug_transition(cp, Packet.tcp("10.1.0.11:8080", "203.0.113.7:40000", "RFA"), IP_VS_DIR_OUTPUT, states[3], states[6])
    assert line == f"IPVS: TCP output  [.FAR] {ends} state: SYN_RECV->CLOSE conn->refcnt:1"
    assert TCP.debug_transition(cp, Packet.tcp("1.1.1.1:1", "192.0.2.1:80", "P"), IP_VS_DIR_INPUT, states[1], states[6]) == "IPVS: tcp_state_idx=-1!!!"


def test_an_sctp_state_change_shows_server_and_client():
    cp = conn_of("sctp", Packet.sctp("203.0.113.7:40000", "192.0.2.1:80"))
    states = cp.ipvs.protocols[132].states
    line = SCTP.debug_transition(cp, Packet.sctp("203.0.113.7:40000", "192.0.2.1:80"), IP_VS_DIR_INPUT, states[0], states[1])
    assert line == "IPVS: SCTP input   10.1.0.11:8080->203.0.113.7:40000 state: NONE->INIT1 conn->refcnt:1"


def test_udp_has_no_state_lines():
    cp = conn_of("udp", Packet.udp("203.0.113.7:40000", "192.0.2.1:80", b"x"))
    assert UDP.debug_transition(cp, Packet.udp("203.0.113.7:40000", "192.0.2.1:80"), IP_VS_DIR_INPUT, cp.state, cp.state) == ""


@pytest.mark.parametrize("protocol", [protocol for protocol in PROTOCOLS if protocol.has_nat_handlers], ids=lambda protocol: protocol.name)
def test_a_wrong_checksum_fails_the_check_unless_the_packet_is_local(protocol):
    make = {"TCP": Packet.tcp, "UDP": Packet.udp, "SCTP": Packet.sctp}[protocol.name]
    raw = bytearray(make("203.0.113.7:40000", "192.0.2.1:80").raw)
    assert protocol.csum_check(Packet.parse(bytes(raw), device="cli"))
    raw[20] ^= 1
    assert not protocol.csum_check(Packet.parse(bytes(raw), device="cli"))
    assert protocol.csum_check(Packet.parse(bytes(raw), device=None)) == csum_check(Packet.parse(bytes(raw), device=None))
