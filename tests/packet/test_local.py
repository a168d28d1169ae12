"""Answers of a local stack without listener (recorded packets are from the traces `malformed` and `sctp`)."""

import pytest

from ipvs_model.packet import Packet, echo_reply, local_answer, port_unreachable, protocol_unreachable, tcp_reset, transport_csum_ok
from ipvs_model.packet.local import udp_datagram
from ipvs_model.packet.rewrite import with_checksum

C, VIP = "203.0.113.5:40000", "192.0.2.1:80"
C6, VIP6 = "[2001:db8::5]:40000", "[2001:db8:2::1]:80"


def test_recorded_reset():
    syn = Packet.parse(bytes.fromhex("450000280001400040063cc3cb007108c000020350861f40000003e8000000005002ffff3e280000"))
    assert local_answer(syn).raw.hex() == "450000280000400040063cc4c0000203cb0071081f40508600000000000003e9501400003e150000"


@pytest.mark.parametrize(
    ("flags", "payload", "seq", "ack", "answer"),
    [
        ("S", b"", 0, 1001, "RA"),
        ("S", b"abc", 0, 1004, "RA"),
        ("SF", b"", 0, 1002, "RA"),
        ("F", b"", 0, 1001, "RA"),
        ("", b"ab", 0, 1002, "RA"),
        ("A", b"ab", 77, 0, "R"),
        ("SA", b"", 77, 0, "R"),
        ("FA", b"", 77, 0, "R"),
    ],
)
@pytest.mark.parametrize("ends", [(C, VIP), (C6, VIP6)])
def test_reset(ends, flags, payload, seq, ack, answer):
    segment = Packet.tcp(*ends, flags, seq=1000, ack=77, payload=payload, tos=0x13, mark=3, device="cli", options=b"\x02\x04\x05\xb4")
    assert tcp_reset(segment) == Packet.tcp(ends[1], ends[0], answer, seq=seq, ack=ack, window=0, tos=0x10, id=0)


@pytest.mark.parametrize(
    "segment",
    [
        Packet.tcp(C, VIP, "R"),
        Packet.tcp(C, VIP, "RA"),
        Packet.udp(C, VIP),
        Packet.ip("1.1.1.1", "2.2.2.2", 6, bytes(19)),
        Packet.parse(Packet.tcp(C, VIP).raw[:36] + bytes(2) + Packet.tcp(C, VIP).raw[38:]),
    ],
)
def test_no_reset(segment):
    assert tcp_reset(segment) is None


@pytest.mark.parametrize("ends", [(C, VIP), (C6, VIP6)])
def test_a_datagram_ends_where_it_says(ends):
    raw = Packet.udp(*ends, b"abcd").raw
    sound = Packet.parse(raw)
    assert udp_datagram(sound) is sound
    longer = raw[:2] + (len(raw) + 3).to_bytes(2) + raw[4:] if raw[0] >> 4 == 4 else raw[:4] + (len(raw) - 37).to_bytes(2) + raw[6:]
    padded = Packet.parse(longer + b"xyz")
    assert padded.length == sound.length + 3
    assert udp_datagram(padded).l4_bytes == sound.l4_bytes
    assert padded.raw[: sound.length] in port_unreachable(padded).raw and b"xyz" not in port_unreachable(padded).raw


def test_what_is_no_sound_datagram():
    segment = Packet.tcp(C, VIP)
    for bad in (segment, Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(7)), Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(4) + b"\0\7" + bytes(9))):
        assert udp_datagram(bad) is None and port_unreachable(bad) is None
    unsummed = Packet.udp(C6, VIP6, checksum=False)
    assert udp_datagram(unsummed) is None
    assert udp_datagram(Packet.udp(C, VIP, checksum=False)) is not None


def test_a_jumbogram_states_no_length():
    body = bytes.fromhex("9c40005000000000") + b"ab"
    jumbo = Packet.ip("2001:db8::5", "2001:db8:2::1", 17, body)
    jumbo = Packet.parse(with_checksum(jumbo.raw, 40, 17, jumbo.saddr, jumbo.daddr))
    assert udp_datagram(jumbo) is jumbo
    assert udp_datagram(Packet.ip("203.0.113.5", "192.0.2.1", 17, body)) is None


@pytest.mark.parametrize(("packet", "code"), [(Packet.ip("1.1.1.1", "2.2.2.2", 58, bytes(8)), 2), (Packet.ip("2001:db8::5", "2001:db8:2::1", 1, b"\x08" + bytes(7)), 1)])
def test_the_other_versions_icmp_is_an_unknown_protocol(packet, code):
    assert local_answer(packet).l4_bytes[:2] == bytes((3 if packet.af == 2 else 4, code))


def data_offset(words):
    header = bytearray(Packet.tcp("1.1.1.1:0", "1.1.1.1:0", 0).l4_bytes)
    header[12] = words << 4
    body = Packet.ip("1.1.1.1", "2.2.2.2", 6, bytes(header))
    return Packet.parse(with_checksum(body.raw, 20, 6, body.saddr, body.daddr))


@pytest.mark.parametrize("words", [0, 4, 6, 15])
def test_no_reset_to_an_impossible_data_offset(words):
    assert transport_csum_ok(data_offset(words))
    assert tcp_reset(data_offset(words)) is None
    assert tcp_reset(data_offset(5)) is not None


def test_port_unreachable():
    datagram = Packet.udp(C, VIP, b"query")
    error = local_answer(datagram, ident=9)
    assert (error.raw[20:22], error.payload, error.id) == (b"\x03\x03", datagram.raw, 9)
    assert (error.saddr, error.daddr) == (datagram.daddr, datagram.saddr)


def test_port_unreachable_over_ipv6_may_come_from_another_address():
    error = local_answer(Packet.udp(C6, VIP6, b"query"), saddr=5)
    assert (error.raw[40:42], error.saddr) == (b"\x01\x04", 5)


def udp_length(length, data):
    return Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes.fromhex("00010002") + length.to_bytes(2, "big") + bytes(2) + data)


def test_datagrams_that_nobody_answers():
    raw = Packet.udp(C, VIP, b"query").raw
    assert port_unreachable(Packet.parse(raw[:-1] + b"x")) is None
    assert port_unreachable(udp_length(7, b"ab")) is None
    assert port_unreachable(udp_length(11, b"ab")) is None
    assert port_unreachable(udp_length(9, b"ab")) is not None
    assert port_unreachable(Packet.udp(C, VIP, checksum=False)) is not None
    assert port_unreachable(Packet.udp(C6, VIP6, checksum=False)) is None
    assert port_unreachable(Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(7))) is None
    assert port_unreachable(Packet.tcp(C, VIP)) is None


def test_protocol_unreachable():
    assert local_answer(Packet.sctp(C, VIP)).raw[20:22] == b"\x03\x02"
    recorded = Packet.parse(
        bytes.fromhex("600000000018844020010db8000f0000000000000000000220010db80002000000000000000000019c401f4000000001fd3ebd4e040100040600000800000000")
    )
    answer = local_answer(recorded, saddr=0x20010DB8000900000000000000000001)
    assert answer.raw[40:].hex() == "0401dfed00000006" + recorded.raw.hex()


def test_unknown_next_header_points_behind_the_extension_headers():
    packet = Packet.ip("2001:db8::5", "2001:db8:2::1", 0, bytes((51, 0)) + bytes(6) + bytes((60, 4)) + bytes(22) + bytes((44, 0)) + bytes(6) + bytes((50, 0)) + bytes(6))
    assert protocol_unreachable(packet).raw[44:48] == (40 + 8 + 24 + 8).to_bytes(4, "big")


def test_no_next_header_and_broken_chains_are_nobodys_protocol():
    assert local_answer(Packet.ip("2001:db8::5", "2001:db8:2::1", 59)) is None
    assert local_answer(Packet.ip("2001:db8::5", "2001:db8:2::1", 0, b"\x11")) is None


@pytest.mark.parametrize(("ends", "ask", "answer"), [(("203.0.113.5", "192.0.2.1"), 8, 0), (("2001:db8::5", "2001:db8:2::1"), 128, 129)])
def test_echo_reply(ends, ask, answer):
    request = Packet.icmp(*ends, ask, 0, b"\x00\x01\x00\x02", b"ping", tos=4, ttl=9)
    reply = local_answer(request, ident=3)
    assert reply == Packet.icmp(ends[1], ends[0], answer, 0, b"\x00\x01\x00\x02", b"ping", tos=4, id=3, df=False)


def test_only_sound_requests_are_echoed():
    request = Packet.icmp("203.0.113.5", "192.0.2.1", 8, payload=b"ping")
    assert echo_reply(Packet.parse(request.raw[:-1] + b"x")) is None
    assert echo_reply(Packet.icmp("203.0.113.5", "192.0.2.1", 0)) is None
    assert echo_reply(Packet.ip("203.0.113.5", "192.0.2.1", 1, b"\x08\x00\xf7\xff")) is None
    assert echo_reply(Packet.tcp(C, VIP)) is None
