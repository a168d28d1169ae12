"""Checksums: the worked examples of spec/40 and the arithmetic against a naive version."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.packet import Packet, dnat, snat, transport_csum_ok
from ipvs_model.packet.checksum import crc32c, csum16, pseudo_csum, pseudo_sum, update_csum

TCP, UDP, SCTP = 6, 17, 132
DNAT, SNAT = "dnat", "snat"

#: protocol, handler, source and destination before, the same after, transport bytes before, after, "right afterwards"
NAT_CHECKSUMS = {
    "TCP DNAT": (
        TCP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c400050000003e8000007d05018faf0c79b0000474554202f20485454502f312e300d0a0d0a",
        "9c401f90000003e8000007d05018faf0da640000474554202f20485454502f312e300d0a0d0a", True,
    ),
    "TCP SNAT": (
        TCP, SNAT, "10.0.0.2", "198.51.100.7", "203.0.113.10", "198.51.100.7",
        "1f909c40000003e8000007d05018faf0ef310000485454502f312e3020323030204f4b0d0a0d0a",
        "00509c40000003e8000007d05018faf0dc680000485454502f312e3020323030204f4b0d0a0d0a", True,
    ),
    "TCP DNAT, wrong on arrival stays wrong": (
        TCP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c400050000003e8000007d05018faf0c69b0000474554202f20485454502f312e300d0a0d0a",
        "9c401f90000003e8000007d05018faf0d9640000474554202f20485454502f312e300d0a0d0a", False,
    ),
    "UDP DNAT": (
        UDP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "14e90035000d409e68656c6c6f", "14e90035000d72a768656c6c6f", True,
    ),
    "UDP DNAT, 0 on arrival is filled in": (
        UDP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "14e90035000d000068656c6c6f", "14e90035000d72a768656c6c6f", True,
    ),
    "UDP SNAT, 0 on arrival is filled in": (
        UDP, SNAT, "10.0.0.2", "198.51.100.7", "203.0.113.10", "198.51.100.7",
        "003514e9000d000068656c6c6f", "003514e9000d409e68656c6c6f", True,
    ),
    "TCP over IPv6 DNAT": (
        TCP, DNAT, "2001:db8::7", "2001:db8:1::10", "2001:db8::7", "fd00::2",
        "9c400050000003e8000007d05018faf03908000078", "9c401f90000003e8000007d05018faf04a8f000078", True,
    ),
    "UDP over IPv6 SNAT": (
        UDP, SNAT, "fd00::2", "2001:db8::7", "2001:db8:1::10", "2001:db8::7",
        "14b414e9000e677f68656c6c6f21", "003514e9000e4b3768656c6c6f21", True,
    ),
    "UDP DNAT, 0x0000 is stored as 0xffff": (
        UDP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "14e90035000acdf6b67f", "14e90035000affffb67f", True,
    ),
    "SCTP DNAT, port changes": (
        SCTP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c4026ab11223344a9dbee790000001400000000000000000000000000000000", "9c4026ac11223344b04735b50000001400000000000000000000000000000000", True,
    ),
    "SCTP DNAT, port changes, wrong on arrival becomes right": (
        SCTP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c4026ab11223344a8dbee790000001400000000000000000000000000000000", "9c4026ac11223344b04735b50000001400000000000000000000000000000000", True,
    ),
    "SCTP DNAT, port unchanged": (
        SCTP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c4026ab11223344a9dbee790000001400000000000000000000000000000000", "9c4026ab11223344a9dbee790000001400000000000000000000000000000000", True,
    ),
    "SCTP DNAT, port unchanged, wrong on arrival stays wrong": (
        SCTP, DNAT, "198.51.100.7", "203.0.113.10", "198.51.100.7", "10.0.0.2",
        "9c4026ab11223344a8dbee790000001400000000000000000000000000000000", "9c4026ab11223344a8dbee790000001400000000000000000000000000000000", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAT_CHECKSUMS)
def test_nat_handler_leaves_the_recorded_checksum(name):
    protocol, handler, src, dst, new_src, new_dst, before, after, valid = NAT_CHECKSUMS[name]
    after = bytes.fromhex(after)
    packet = Packet.ip(src, dst, protocol, bytes.fromhex(before))
    sport, dport = struct.unpack_from("!HH", after)
    if handler == DNAT:
        out = dnat(packet, Packet.ip(new_src, new_dst, protocol).daddr << 16 | dport)
    else:
        out = snat(packet, Packet.ip(new_src, new_dst, protocol).saddr << 16 | sport)
    assert out.l4_bytes == after
    assert (out.saddr, out.daddr) == (Packet.ip(new_src, new_dst, 0).saddr, Packet.ip(new_src, new_dst, 0).daddr)
    assert transport_csum_ok(out) is valid


def naive_sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=64))
def test_csum16_is_the_complement_of_the_folded_word_sum(data):
    assert csum16(data) == ~naive_sum(data) & 0xFFFF


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(1, 255), st.binary(max_size=40))
def test_pseudo_header_sum_is_that_of_its_bytes(saddr, daddr, protocol, segment):
    pseudo = struct.pack("!IIBBH", saddr, daddr, 0, protocol, len(segment))
    assert pseudo_csum(saddr, daddr, protocol, segment) == ~naive_sum(pseudo + segment) & 0xFFFF
    assert pseudo_sum(saddr, daddr, protocol, len(segment)) == naive_sum(pseudo)


@given(st.binary(min_size=20, max_size=20), st.integers(1, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_incremental_update_equals_a_full_computation(rest, old, new):
    before = csum16(old.to_bytes(4, "big") + rest)
    after = -(new + int.from_bytes(rest, "big")) % 65535
    assert update_csum(before, old, new) == after


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_update_follows_the_kernels_folding(check, old, new):
    total = (~check & 0xFFFF) + (~(old >> 16) & 0xFFFF) + (~old & 0xFFFF) + (new >> 16) + (new & 0xFFFF)
    if total == 0:
        total = 0xFFFF
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert update_csum(check, old, new) == ~total & 0xFFFF


@given(st.binary(max_size=40))
def test_crc32c_equals_the_bitwise_one(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF
