"""What does not fit into a header, and headers that are not there."""

from errno import EBADMSG

import pytest

from ipvs_model.packet import Packet
from ipvs_model.packet.build import tcp_segment
from ipvs_model.packet.fragment import fragment
from ipvs_model.packet.parse import ipv6_find_hdr
from ipvs_model.packet.reassembly import Reassembler


def test_a_tcp_header_takes_forty_bytes_of_options():
    assert tcp_segment(1, 2, 2, 0, 0, 0, bytes(40), b"")[12] >> 4 == 15
    with pytest.raises(ValueError, match="44 bytes of TCP options, at most 40"):
        tcp_segment(1, 2, 2, 0, 0, 0, bytes(41), b"")


@pytest.mark.parametrize("offset", [0, 48])
def test_a_chain_that_begins_behind_the_packet_is_broken(offset):
    raw = Packet.tcp("[2001:db8::1]:1", "[2001:db8::2]:2").raw[: offset + 39]
    assert ipv6_find_hdr(raw, offset) == (-EBADMSG, offset, 0, False)


@pytest.mark.parametrize("body", ["06000003", "06000009 00000000", "0b000004 0600"])
def test_a_packet_with_chunks_of_wrong_length_prints_as_its_bytes(body):
    packet = Packet.ip("203.0.113.7", "192.0.2.1", 132, bytes(12) + bytes.fromhex(body))
    assert repr(packet).startswith("Packet.parse(bytes.fromhex(")
    assert eval(repr(packet)) == packet


def test_a_packet_with_sound_chunks_prints_as_its_call():
    packet = Packet.sctp("203.0.113.7:1", "192.0.2.1:2", [(1, 0, bytes(4)), (6, 1, b"")])
    assert repr(packet) == r"Packet.sctp('203.0.113.7:1', '192.0.2.1:2', [(1, 0, b'\x00\x00\x00\x00'), (6, 1, b'')])"


@pytest.mark.parametrize("headers", ["11 00 010400000000", "2b 00 010400000000 11 00 000000000000"], ids=["hop-by-hop", "hop-by-hop, routing"])
def test_headers_in_front_of_the_fragment_header_come_back_with_the_whole_packet(headers):
    datagram = Packet.udp("[2001:db8::1]:1", "[2001:db8::2]:2", bytes(range(200)))
    chain = bytes.fromhex(headers)
    whole = Packet.ip("2001:db8::1", "2001:db8::2", 0, chain + datagram.l4_bytes)
    assert (whole.proto, whole.l4) == (17, 40 + len(chain))
    pieces = fragment(whole, 140, ident=7)
    assert [piece.raw[6] for piece in pieces] == [0] * len(pieces) and len(pieces) > 2
    reassembler = Reassembler()
    *waiting, last = [reassembler.add(piece) for piece in reversed(pieces)]
    assert waiting == [None] * (len(pieces) - 1)
    assert last.raw == whole.raw
