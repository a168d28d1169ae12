"""ICMP errors: about which packets, and what they quote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packet.strategies import transport_packets

from ipvs_model.flags import AF_INET, PKT_NO_ROUTE, PKT_NOT_TO_HOST
from ipvs_model.packet import Packet, fill_iph_at, icmp_csum_ok, icmp_error, is_error

VIP = 0xC0000201
SYN = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")
SYN6 = Packet.tcp("[2001:db8::5]:40000", "[2001:db8:2::1]:80", "S")


@given(transport_packets, st.integers(0, 0xFFFFFFFF))
def test_an_error_goes_back_and_quotes_the_packet(packet, info):
    v4 = packet.af == AF_INET
    error = icmp_error(packet, 3, 4, info, saddr=VIP, ident=5, flow_label=0x54321)
    silent = not v4 and (packet.saddr == 0 or packet.saddr >> 120 == 0xFF or packet.daddr >> 120 == 0xFF)
    assert (error is None) == silent
    if error is not None:
        assert (error.saddr, error.daddr, error.ttl) == (VIP, packet.saddr, 64)
        assert error.raw[error.l4 + 4 : error.l4 + 8] == info.to_bytes(4, "big")
        assert error.payload == packet.raw and icmp_csum_ok(error)
        assert fill_iph_at(error.raw, packet.af, error.l4 + 8).saddr == packet.saddr
        assert error.tos == (packet.tos & 0x1E | 0xC0 if v4 else 0)
        assert error.id == (5 if v4 else 0)
        assert v4 or error.raw[:4].hex() == "60054321"


@pytest.mark.parametrize(("mtu", "length"), [(1500, 576), (576, 576), (296, 296)])
def test_ipv4_quotes_at_most_what_makes_576_bytes(mtu, length):
    big = Packet.udp("203.0.113.5:1", "192.0.2.1:2", bytes(1000))
    assert icmp_error(big, 3, 3, saddr=VIP, mtu=mtu).length == length


@pytest.mark.parametrize("type", range(256))
def test_no_error_about_an_ipv4_error(type):
    message = Packet.icmp("203.0.113.5", "192.0.2.1", type)
    assert is_error(message) == (type not in (0, 8, 13, 14, 15, 16, 17, 18))
    assert (icmp_error(message, 3, 1, saddr=VIP) is None) == is_error(message)


@pytest.mark.parametrize("type", range(256))
def test_no_error_about_an_ipv6_error(type):
    message = Packet.icmp("2001:db8::5", "2001:db8:2::1", type)
    assert is_error(message) == (type < 128)
    assert (icmp_error(message, 1, 3, saddr=VIP) is None) == is_error(message)


@pytest.mark.parametrize(
    "packet",
    [
        Packet.ip("203.0.113.5", "192.0.2.1", 1),
        Packet.ip("2001:db8::5", "2001:db8:2::1", 58),
        Packet.parse(SYN.raw, bits=PKT_NO_ROUTE),
        Packet.parse(SYN.raw, bits=PKT_NOT_TO_HOST),
        Packet.parse(SYN6.raw, bits=PKT_NOT_TO_HOST),
        Packet.parse(SYN.raw[:6] + b"\x00\x05" + SYN.raw[8:]),
        Packet.parse(SYN.raw[:19]),
        Packet.parse(SYN6.raw[:39]),
        Packet.udp("[::]:1", "[2001:db8:2::1]:1"),
        Packet.udp("[ff02::1]:1", "[2001:db8:2::1]:1"),
        Packet.udp("[2001:db8::5]:1", "[ff02::1]:1"),
    ],
)
def test_silence(packet):
    assert icmp_error(packet, 3, 1, saddr=VIP) is None


def test_too_big_is_sent_about_multicast_too():
    assert icmp_error(Packet.udp("[2001:db8::5]:1", "[ff02::1]:1"), 2, 0, 1280, saddr=VIP) is not None


def test_first_fragments_are_worth_an_error():
    assert icmp_error(Packet.parse(SYN.raw[:6] + b"\x20\x00" + SYN.raw[8:]), 3, 1, saddr=VIP) is not None
