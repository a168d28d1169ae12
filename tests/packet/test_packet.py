"""Packet: fields from bytes and bytes from fields, in every state of damage."""

import copy
import ipaddress
import pickle

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packet.strategies import endpoint_ints, packets, portless_packets, tcp_packets, transport_packets, udp_packets

from ipvs_model.flags import AF_INET, AF_INET6, PKT_PROPERTY
from ipvs_model.packet import Packet, header_error, transport_csum_ok
from ipvs_model.packet.build import tcp_packet
from ipvs_model.packet.parse import parse_fields

HOT = ("af", "proto", "src", "dst", "flags", "length", "ttl", "l4", "df", "plain", "has_ports", "frag", "fragoffs", "truncated")
SYN = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")


def hot_fields(packet):
    return {name: getattr(packet, name) for name in HOT}


def test_syn_of_the_first_vector():
    assert SYN.raw.hex() == "450000280001400040063cc8cb007105c00002019c400050000003e8000000005002ffff11630000"


@pytest.mark.parametrize(
    "src",
    [
        "203.0.113.5:40000",
        ("203.0.113.5", 40000),
        (ipaddress.ip_address("203.0.113.5"), 40000),
        (0xCB007105, 40000),
    ],
)
def test_endpoints_are_taken_as_people_write_them(src):
    assert Packet.tcp(src, ("192.0.2.1", 80)) == SYN


def test_ipv6_endpoints_in_brackets():
    packet = Packet.udp("[2001:db8::1]:53", "[2001:db8::2]:1024", b"x")
    assert packet.af == AF_INET6
    assert (packet.saddr, packet.sport, packet.dport) == (int(ipaddress.ip_address("2001:db8::1")), 53, 1024)
    assert packet.length == len(packet.raw) == 49


def test_families_do_not_mix():
    with pytest.raises(ValueError, match="families"):
        Packet.tcp("192.0.2.1:1", "[2001:db8::1]:1")
    with pytest.raises(ValueError, match="families"):
        Packet.icmp("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": 1 << 32},
        {"ack": -1},
        {"window": 65536},
        {"ttl": 256},
        {"tos": -1},
        {"id": 65536},
        {"flags": "X"},
        {"flags": 256},
        {"options": bytes(41)},
        {"payload": bytes(65496)},
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused_at_once(wrong):
    with pytest.raises(ValueError):
        Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", **wrong)


@pytest.mark.parametrize("build", [
    lambda: Packet.udp("1.1.1.1:1", "2.2.2.2:2", bytes(65508)),
    lambda: Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(65516)),
    lambda: Packet.ip("::1", "::2", 17, bytes(65536)),
    lambda: Packet.ip("1.1.1.1", "2.2.2.2", 17, options=bytes(41)),
    lambda: Packet.icmp("1.1.1.1", "2.2.2.2", rest=b"abc"),
    lambda: Packet.ah("1.1.1.1", "2.2.2.2", icv=bytes(3)),
    lambda: Packet.esp("1.1.1.1", "2.2.2.2", spi=1 << 32),
    lambda: Packet.ip("1.1.1.1", "2.2.2.2", 256),
    lambda: Packet.icmp("1.1.1.1", "2.2.2.2", ttl=-1),
    lambda: Packet.icmp("1.1.1.1", "2.2.2.2", 256),
    lambda: Packet.sctp("1.1.1.1:1", "2.2.2.2:2", tos=256),
    lambda: Packet.sctp("1.1.1.1:1", "2.2.2.2:2", vtag=-1),
    lambda: Packet.udp("1.1.1.1:1", "2.2.2.2:65536"),
])  # fmt: skip
def test_oversize_and_odd_parts_are_refused(build):
    with pytest.raises(ValueError):
        build()


@given(packets)
def test_parsing_the_bytes_gives_the_constructed_packet(packet):
    again = Packet.parse(packet.raw, mark=packet.mark, device=packet.device)
    assert again == packet
    assert hot_fields(again) == hot_fields(packet)
    assert len(packet.raw) == packet.length and bytes(packet) == packet.raw


@given(packets)
def test_repr_is_python_that_makes_an_equal_packet(packet):
    packet.bits = PKT_PROPERTY
    again = eval(repr(packet), {"Packet": Packet})
    assert again == packet
    assert again.bits == PKT_PROPERTY


@given(packets)
def test_pickle_and_deepcopy_keep_everything(packet):
    packet.bits = PKT_PROPERTY
    packet.frag_max_size = 576
    for twin in (pickle.loads(pickle.dumps(packet)), copy.deepcopy(packet), packet.clone(), eval(repr(packet), {"Packet": Packet})):
        assert twin == packet and twin is not packet
        assert hot_fields(twin) == hot_fields(packet)
        assert (twin.bits, twin.frag_max_size) == (PKT_PROPERTY, 576)


def test_mark_and_device_are_part_of_equality():
    assert SYN != Packet.parse(SYN.raw, mark=1)
    assert SYN != Packet.parse(SYN.raw, device="cli")
    assert SYN != SYN.raw


def test_tcp_between_is_the_same_packet():
    assert Packet.tcp_between(AF_INET, SYN.src, SYN.dst) == SYN
    other = Packet.tcp("[::1]:1", "[::2]:2", "PA", payload=b"abc", mark=2, device="rs")
    quick = Packet.tcp_between(AF_INET6, other.src, other.dst, 0x18, b"abc", 2, "rs")
    assert quick == other and hot_fields(quick) == hot_fields(other)


@given(st.data(), st.sampled_from((AF_INET, AF_INET, AF_INET6)), st.integers(0, 0x1FF), st.sampled_from((b"", b"", b"abc")), st.integers(1, 255), st.booleans())
def test_segments_of_a_generator_have_the_bytes_of_any_other(data, af, flags, payload, ttl, df):
    src, dst = (data.draw(endpoint_ints(af)) for _ in range(2))
    flags &= 0x1FF if af == AF_INET else 0xFF  # the ninth flag is nobody's yet
    quick = Packet.tcp_between(af, src, dst, flags, payload)
    quick.ttl, quick.df = ttl, df
    assert quick.raw == tcp_packet(af, src, dst, ttl, df, (flags, 1000, 0, 65535, b"", payload, 0, 1))
    assert header_error(quick.raw) is None and transport_csum_ok(quick)


@given(packets, st.data())
def test_the_quick_parser_agrees_with_the_general_one(packet, data):
    raw = bytearray(packet.raw[: data.draw(st.sampled_from((None, None, 39, 27, -1)))])
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 45)))] = data.draw(st.integers(0, 255))
    parsed = Packet.parse(bytes(raw), 7, "cli", PKT_PROPERTY)
    fields = parse_fields(bytes(raw))._asdict()
    assert parsed.raw == fields.pop("raw") and parsed.length == len(parsed.raw)
    assert fields == {name: value for name, value in hot_fields(parsed).items() if name != "length"}
    assert (parsed.mark, parsed.device, parsed.bits) == (7, "cli", PKT_PROPERTY)


@given(packets, st.data())
def test_no_truncation_and_no_damage_raises(packet, data):
    raw = bytearray(packet.raw)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for size in range(len(raw) + 1):
        damaged = Packet.parse(bytes(raw[:size]))
        assert len(damaged.raw) == damaged.length <= size
        assert Packet.parse(damaged.raw) == damaged
        assert eval(repr(damaged), {"Packet": Packet}) == damaged
        transport_csum_ok(damaged)
        header_error(damaged.raw)
        assert 0 <= damaged.tos <= 255 and damaged.id >= 0 and damaged.seq >= 0 and damaged.ack >= 0 and damaged.payload in damaged.raw


@given(transport_packets)
def test_a_truncated_packet_is_not_plain(packet):
    for size in range(packet.length):
        damaged = Packet.parse(packet.raw[:size])
        assert not damaged.plain
        assert damaged.truncated or size == 0
        assert damaged.flags == (packet.flags if damaged.l4_len >= 20 else -1) or damaged.proto != packet.proto


@given(packets, st.binary(min_size=1, max_size=20))
def test_bytes_behind_the_stated_length_are_cut_off(packet, padding):
    stated = packet.af == AF_INET or packet.length > 40 or packet.raw[6] != 0
    assert not stated or Packet.parse(packet.raw + padding) == Packet.parse(packet.raw)


def test_any_buffer_is_taken():
    assert Packet.parse(bytearray(SYN.raw)) == SYN
    assert type(Packet.parse(memoryview(SYN.raw)).raw) is bytes


@given(st.one_of(tcp_packets(), udp_packets(), portless_packets()))
def test_dpkt_reads_the_same_fields(packet):
    if packet.af == AF_INET:
        ip = dpkt.ip.IP(packet.raw)
        assert (ip.ttl, ip.tos, ip.id, bool(ip.df), ip.p) == (packet.ttl, packet.tos, packet.id, packet.df, packet.proto)
        assert int.from_bytes(ip.src, "big") == packet.saddr and int.from_bytes(ip.dst, "big") == packet.daddr
    elif packet.plain:
        ip = dpkt.ip6.IP6(packet.raw)
        assert (ip.hlim, ip.p) == (packet.ttl, packet.proto)
    if packet.plain:
        assert (ip.data.sport, ip.data.dport, ip.data.data) == (packet.sport, packet.dport, packet.payload)
        if packet.proto == 6:
            assert (ip.data.seq, ip.data.ack, ip.data.flags & 0x17) == (packet.seq, packet.ack, packet.flags)


@given(transport_packets)
def test_constructed_packets_have_right_checksums(packet):
    assert transport_csum_ok(packet)


@given(packets)
def test_a_host_takes_every_constructed_packet(packet):
    assert header_error(packet.raw) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "header incomplete"),
        (SYN.raw[:19], "header incomplete"),
        (b"\x55" + SYN.raw[1:], "version or header length"),
        (b"\x44" + SYN.raw[1:], "version or header length"),
        (b"\x46" + SYN.raw[1:20], "header incomplete"),
        (SYN.raw[:10] + bytes(2) + SYN.raw[12:], "header checksum"),
        (SYN.raw[:-1], "truncated"),
        (bytes.fromhex("45000013000140004006") + b"\x3c\xdd" + SYN.raw[12:], "total length"),
        (SYN.raw + b"padding", None),
        (b"\x60" + bytes(38), "header incomplete"),
        (Packet.udp("[::1]:1", "[::2]:2").raw[:-1], "truncated"),
        (Packet.udp("[::1]:1", "[::2]:2").raw, None),
    ],
)
def test_what_a_receiving_host_drops(raw, reason):
    assert header_error(raw) == reason


def test_ipv4_fragments():
    first = Packet.parse(SYN.raw[:6] + b"\x20\x00" + SYN.raw[8:])
    assert first.frag and first.has_ports and not first.plain and first.fragoffs == 0 and first.flags == 2
    later = Packet.parse(SYN.raw[:6] + b"\x00\x05" + SYN.raw[8:])
    assert later.frag and not later.has_ports and later.flags == -1 and later.fragoffs == 0
    assert (later.sport, later.dport) == (0, 0)


def ipv6(next_header, *headers):
    return Packet.ip("2001:db8::1", "2001:db8::2", next_header, b"".join(headers))


UDP8 = bytes.fromhex("0001000200080000")


def hop(following):
    return bytes((following, 0)) + bytes(6)


@pytest.mark.parametrize(
    ("packet", "proto", "l4", "fragoffs", "frag"),
    [
        (ipv6(17, UDP8), 17, 40, 0, False),
        (ipv6(0, hop(60), hop(43), hop(17), UDP8), 17, 64, 0, False),
        (ipv6(51, bytes((17, 4)) + bytes(22), UDP8), 17, 64, 0, False),
        (ipv6(50, bytes(16)), 50, 40, 0, False),
        (ipv6(59, bytes(16)), 59, 40, 0, False),
        (ipv6(0, hop(59)), 59, 48, 0, False),
        (ipv6(44, bytes((17, 0, 0, 0)) + bytes(4), UDP8), 17, 48, 0, True),
        (ipv6(44, bytes((17, 0, 0, 1)) + bytes(4), UDP8), 17, 48, 0, True),
        (ipv6(44, bytes((17, 0, 1, 9)) + bytes(4), UDP8), 17, 48, 264, True),
        (ipv6(44, bytes((59, 0, 1, 8)) + bytes(4), UDP8), 59, 48, 264, True),
    ],
)
def test_ipv6_header_chain(packet, proto, l4, fragoffs, frag):
    assert (packet.proto, packet.l4, packet.fragoffs, packet.frag) == (proto, l4, fragoffs, frag)
    assert packet.has_ports == (proto == 17 and not fragoffs)


@pytest.mark.parametrize(
    "packet",
    [
        ipv6(0, b"\x11"),
        ipv6(0, hop(60)),
        ipv6(44, b"\x11\x00\x00"),
        ipv6(44, bytes((60, 0, 1, 8)) + bytes(4), hop(17)),
        Packet.parse(b"\x60" + bytes(30)),
        Packet.parse(b"\x45" + bytes(18)),
        Packet.parse(b""),
    ],
)
def test_a_broken_header_chain_has_a_negative_protocol(packet):
    assert packet.proto < 0
    assert not packet.plain and not packet.has_ports and packet.flags == -1


def test_payload_is_what_the_application_sees():
    assert Packet.tcp("1.1.1.1:1", "2.2.2.2:2", "PA", payload=b"USER x\r\n", options=b"\x01\x01\x01\x01").payload == b"USER x\r\n"
    assert Packet.udp("1.1.1.1:1", "2.2.2.2:2", b"abc").payload == b"abc"
    assert Packet.icmp("1.1.1.1", "2.2.2.2", payload=b"abc").payload == b"abc"
    assert Packet.ip("1.1.1.1", "2.2.2.2", 99, b"abc").payload == b"abc"
    assert Packet.sctp("1.1.1.1:1", "2.2.2.2:2", [(1, 0, b"ab")]).payload == b"\x01\x00\x00\x06ab\x00\x00"
