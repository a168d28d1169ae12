"""Packet.from_frame: what stands in an Ethernet frame, left there until somebody wants the bytes."""

import copy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.packet.strategies import packets, tcp_packets

from ipvs_model.flags import AF_INET, PKT_PROPERTY
from ipvs_model.packet import Packet
from ipvs_model.packet.fields import LAZY_NAT

MEMBERS = (
    *("af", "proto", "src", "dst", "flags", "length", "ttl", "l4", "df", "plain", "has_ports", "frag", "fragoffs", "truncated"),
    *("saddr", "daddr", "sport", "dport", "tos", "id", "seq", "ack", "lane", "mark", "device", "bits", "payload", "l4_len", "frag_max_size"),
)
SEGMENT = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "PA", payload=b"abc")
MACS = bytes(range(12))


def members(packet):
    return {name: getattr(packet, name) for name in MEMBERS}


def frame_of(packet, tags=b"", padding=b""):
    ethertype = b"\x08\x00" if packet.af == AF_INET else b"\x86\xdd"
    return MACS + tags + ethertype + packet.raw + padding


@given(packets, st.sampled_from((b"", b"\x81\0\0\7", b"\x88\xa8\0\1\x81\0\0\7", b"\x91\0\0\1")), st.binary(max_size=6))
def test_the_packet_of_a_frame_is_the_one_of_its_bytes(packet, tags, padding):
    expected = Packet.parse(packet.raw + padding, 7, "cli", PKT_PROPERTY)
    framed = Packet.from_frame(frame_of(packet, tags, padding), 7, "cli", PKT_PROPERTY)
    for found in (framed, framed.clone(), copy.deepcopy(framed)):
        assert members(found) == members(expected)  # while the packet is in its frame, and when it has been cut out
        assert found == expected and members(found) == members(expected)


@given(tcp_packets(), st.lists(st.tuples(st.integers(0, 45), st.integers(0, 255)), max_size=3), st.integers(0, 60))
@example(SEGMENT, [(3, 39)], 0)  # a total length without the whole TCP header
@example(SEGMENT, [(3, 44)], 0)  # and one of more than there is
@example(SEGMENT, [(6, 0x80)], 0)  # the reserved bit
@example(SEGMENT, [(6, 0x60)], 0)  # a first fragment
@example(SEGMENT, [(9, 17)], 0)
@example(SEGMENT, [(0, 0x46)], 0)
def test_damage_in_a_frame_is_the_damage_of_its_bytes(packet, changes, cut):
    raw = bytearray(packet.raw)
    for place, value in changes:
        raw[place % len(raw)] = value
    raw = bytes(raw[: len(raw) - cut])
    version = 4 if packet.af == AF_INET else 6
    frame = frame_of(packet)[:14] + raw
    if not raw or raw[0] >> 4 != version:
        with pytest.raises(ValueError, match="packet says version|its Ethernet header takes"):
            Packet.from_frame(frame)
    else:
        found, expected = Packet.from_frame(frame), Packet.parse(raw)
        assert members(found) == members(expected)
        assert found == expected


@given(tcp_packets(), st.binary(max_size=6), st.booleans())
def test_a_packet_in_its_frame_can_be_rewritten_in_place(packet, padding, nat):
    whole, left = Packet.parse(packet.raw), Packet.from_frame(frame_of(packet, padding=padding))
    copied = left.clone()
    if nat:
        for each in (whole, left):
            each.src ^= 1 << 20 | 5
            each.dst ^= 1 << 30 | 9
            each.lazy |= LAZY_NAT
        assert [left.saddr, left.sport, left.daddr, left.dport] == [whole.saddr, whole.sport, whole.daddr, whole.dport]
    assert (left.raw, left.lazy, left.store) == (whole.raw, 0, whole.raw)
    assert copied.raw == packet.raw


def test_any_buffer_is_taken_and_may_be_used_again():
    buffer = bytearray(frame_of(SEGMENT))
    for taken in (Packet.from_frame(buffer), Packet.from_frame(memoryview(buffer))):
        assert type(taken.raw) is bytes and taken == SEGMENT
    taken = Packet.from_frame(buffer)
    buffer[:] = bytes(len(buffer))
    assert taken == SEGMENT


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "a frame of 0 bytes, its Ethernet header takes 14"),
        (MACS + b"\x08\x00", "a frame of 14 bytes, its Ethernet header takes 14"),
        (MACS + b"\x81\x00\0\7\x08\x00", "a frame of 18 bytes, its Ethernet header takes 18"),
        (MACS + b"\x08\x06" + SEGMENT.raw, "the frame carries no IP: EtherType 0x0806"),
        (MACS + b"\x81\x00\0\7\x88\xcc" + SEGMENT.raw, "the frame carries no IP: EtherType 0x88cc"),
        (MACS + b"\x86\xdd" + SEGMENT.raw, "the frame should carry IPv6, its packet says version 4"),
        (MACS + b"\x08\x00" + b"\x60" + SEGMENT.raw[1:], "the frame should carry IPv4, its packet says version 6"),
    ],
)
def test_a_frame_without_an_ip_packet_is_refused(frame, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Packet.from_frame(frame)
