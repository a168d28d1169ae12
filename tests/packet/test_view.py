"""The packet view: what it says, and when it cannot be filled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packet.strategies import packets

from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE
from ipvs_model.packet import IpHdr, Packet, fill_iph, fill_iph_at

SYN = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")
SYN6 = Packet.tcp("[2001:db8::5]:40000", "[2001:db8:2::1]:80", "S")


@given(packets)
def test_both_ways_to_fill_agree_on_sound_packets(packet):
    view = fill_iph_at(packet.raw, packet.af, 0)
    if view is None:
        assert packet.proto < 0
    else:
        assert view == fill_iph(packet)


@given(packets, st.binary(max_size=60))
def test_a_header_further_back_is_seen_as_if_it_stood_in_front(packet, before):
    front = fill_iph_at(packet.raw, packet.af, 0)
    view = fill_iph_at(before + packet.raw, packet.af, len(before), IP_VS_HDR_ICMP)
    if front is None:
        assert view is None
        return
    moved = IpHdr(front.af, len(before), front.len + len(before), front.protocol, front.fragoffs, front.flags, front.saddr, front.daddr,
                  IP_VS_HDR_ICMP, front.sport, front.dport)  # fmt: skip
    assert view == moved


def test_roles():
    view = fill_iph(SYN, IP_VS_HDR_INVERSE)
    assert view.inverse and not view.icmp
    assert eval(repr(view), {"IpHdr": IpHdr}) == view
    assert (view.saddr, view.sport, view.daddr, view.dport) == (SYN.saddr, 40000, SYN.daddr, 80)
    assert view != SYN


@pytest.mark.parametrize(("packet", "size"), [(SYN, 20), (SYN6, 40)])
def test_the_fixed_header_must_be_there(packet, size):
    for off in (0, 28):
        assert fill_iph_at(bytes(off) + packet.raw[: size - 1], packet.af, off) is None
        view = fill_iph_at(bytes(off) + packet.raw[:size], packet.af, off)
        assert (view.len, view.protocol, view.sport, view.dport) == (off + size, 6, None, None)


@pytest.mark.parametrize("size", range(4))
def test_ports_need_their_four_bytes(size):
    assert fill_iph_at(SYN.raw[: 20 + size], AF_INET, 0).sport is None
    assert fill_iph_at(SYN.raw[:24], AF_INET, 0).dport == 80


def test_ipv4_version_and_checksum_are_not_looked_at():
    raw = b"\x95" + SYN.raw[1:10] + bytes(2) + SYN.raw[12:]
    assert fill_iph_at(raw, AF_INET, 0).protocol == 6


def test_a_quoted_ipv6_header_must_be_of_version_6():
    raw = b"\x40" + SYN6.raw[1:]
    assert fill_iph_at(raw, AF_INET6, 0).protocol == 6
    assert fill_iph_at(bytes(48) + raw, AF_INET6, 48) is None


def fragment_header(following, word):
    return bytes((following, 0)) + word.to_bytes(2, "big") + bytes(4)


def test_a_later_ipv6_fragment_keeps_its_offset_and_shows_no_ports():
    later = Packet.ip("2001:db8::5", "2001:db8:2::1", 44, fragment_header(17, 264) + bytes(16))
    for view in (fill_iph(later), fill_iph_at(later.raw, AF_INET6, 0)):
        assert (view.protocol, view.fragoffs, view.flags, view.len, view.sport) == (17, 264, 1, 0, None)


def test_a_first_ipv6_fragment_shows_its_ports():
    first = Packet.ip("2001:db8::5", "2001:db8:2::1", 44, fragment_header(17, 1) + bytes.fromhex("0001000200080000"))
    view = fill_iph_at(first.raw, AF_INET6, 0)
    assert (view.protocol, view.fragoffs, view.flags, view.len, view.sport, view.dport) == (17, 0, 1, 48, 1, 2)


def test_a_broken_chain_is_a_negative_protocol_in_the_hook_and_no_view_inside():
    broken = Packet.ip("2001:db8::5", "2001:db8:2::1", 0, b"\x11")
    assert fill_iph(broken).protocol < 0 and fill_iph(broken).len == 0
    assert fill_iph_at(broken.raw, AF_INET6, 0) is None
