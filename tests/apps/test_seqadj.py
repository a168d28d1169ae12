"""Conntrack's side of FTP: numbers, SACK blocks and checksum of a shifted stream (spec/60 section 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.apps.seqadj import FIELDS, ConntrackSeqAdj, CtSeqAdj, sack_numbers
from ipvs_model.fields import names
from ipvs_model.packet.checksum import pseudo_csum

ADDRESSES = (0x0A000001, 0x0A000002)


def segment(seq: int, ack: int, flags: int = 0x10, options: bytes = b"", payload: bytes = b"", wrong_by: int = 0) -> bytes:
    options += b"\0" * (-len(options) % 4)
    head = b"\x00\x15\x0b\xb8" + seq.to_bytes(4, "big") + ack.to_bytes(4, "big") + bytes([(5 + len(options) // 4) << 4, flags, 0xFF, 0xFF, 0, 0, 0, 0]) + options + payload
    check = (pseudo_csum(*ADDRESSES, 6, head) + wrong_by) % 0xFFFF
    return head[:16] + check.to_bytes(2, "big") + head[18:]


def numbers(data: bytes | None) -> tuple[int, int]:
    assert data is not None
    return int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")


def grown(at: int = 5001, diff: int = 4) -> ConntrackSeqAdj:
    adj = ConntrackSeqAdj()
    adj.set(at, diff, reply=True)
    return adj


def test_nothing_is_shifted_before_the_first_replacement() -> None:
    data = segment(1, 2)
    assert ConntrackSeqAdj().adjust(data, reply=True) is data


def test_a_replacement_of_the_same_length_sets_nothing() -> None:
    assert not grown(diff=0).active


def test_worked_example() -> None:
    adj = grown()
    assert numbers(adj.adjust(segment(5001, 1007), reply=True)) == (5001, 1007)
    assert numbers(adj.adjust(segment(5049, 1007), reply=True)) == (5053, 1007)
    assert numbers(adj.adjust(segment(1007, 5100), reply=False)) == (1007, 5096)
    assert numbers(adj.adjust(segment(1007, 5053), reply=False)) == (1007, 5049)


def test_retransmission_does_not_count_twice() -> None:
    adj = grown()
    adj.set(5001, 4, reply=True)
    assert (adj.reply.offset_before, adj.reply.offset_after) == (0, 4)


def test_second_replacement() -> None:
    adj = grown()
    adj.set(5100, -10, reply=True)
    assert (adj.reply.correction_pos, adj.reply.offset_before, adj.reply.offset_after) == (5100, 4, -6)
    assert [adj.reply.seq(number) for number in (5050, 5100, 5101)] == [5054, 5104, 5095]
    assert [adj.reply.ack(number) for number in (5054, 5104, 5105)] == [5050, 5100, 5111]


def test_numbers_wrap() -> None:
    adj = grown(at=0xFFFFFFF0)
    assert adj.reply.seq(0xFFFFFFFE) == 2
    assert adj.reply.ack(2) == 0xFFFFFFFE


def test_without_ack_flag_the_acknowledgement_stays() -> None:
    assert numbers(grown().adjust(segment(1007, 6000, flags=0x02), reply=False)) == (1007, 6000)


def test_sack_blocks_are_shifted() -> None:
    sack = b"\x01\x01\x05\x12" + b"".join(number.to_bytes(4, "big") for number in (6000, 6100, 4000, 4100))
    out = grown().adjust(segment(1007, 5900, options=sack), reply=False)
    assert out is not None
    assert [int.from_bytes(out[at : at + 4], "big") for at in range(24, 40, 4)] == [5996, 6096, 4000, 4100]
    assert pseudo_csum(*ADDRESSES, 6, out) == 0


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"", []),
        (b"\x00\x05\x0a\x00", []),
        (b"\x01\x03\x03\x07", []),
        (b"\x01\x01\x05\x0a" + bytes(8), [24, 28]),
        (b"\x05\x0a" + bytes(8), [22, 26]),
        (b"\x05\x08" + bytes(6), []),
        (b"\x05\x02\x01\x01", []),
    ],
)
def test_sack_numbers(options: bytes, found: list[int]) -> None:
    assert sack_numbers(segment(1, 1, options=options)) == found


@pytest.mark.parametrize("options", [b"\x01\x01\x01\x05", b"\x05\x0a\x00\x00", b"\x03\x01\x00\x00", b"\x03\x00\x00\x00"])
def test_unreadable_options_drop_the_packet(options: bytes) -> None:
    assert grown().adjust(segment(1, 6000, options=options), reply=False) is None


def test_header_longer_than_the_packet_drops_it() -> None:
    data = segment(1, 6000)
    assert grown().adjust(data[:12] + b"\xf0" + data[13:], reply=False) is None


def test_too_short_for_a_header_stays() -> None:
    assert grown().adjust(b"\0" * 19, reply=False) == b"\0" * 19


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(-300, 300), st.booleans(), st.binary(max_size=9), st.integers(0, 0xFFFE))
def test_a_checksum_keeps_its_error(seq: int, ack: int, diff: int, reply: bool, payload: bytes, wrong_by: int) -> None:
    out = grown(at=seq ^ 0x1234, diff=diff).adjust(segment(seq, ack, payload=payload, wrong_by=wrong_by), reply=reply)
    assert out is not None
    assert pseudo_csum(*ADDRESSES, 6, out) == -wrong_by % 0xFFFF


def test_a_partial_checksum_stays() -> None:
    data = segment(6000, 1)
    out = grown().adjust(data, reply=True, partial=True)
    assert out is not None and out[16:18] == data[16:18] and numbers(out) == (6004, 1)


def test_fields_are_the_attributes() -> None:
    assert names(FIELDS) == set(CtSeqAdj.__slots__)
    assert repr(grown().reply) == "<CtSeqAdj pos=5001 before=0 after=4>"
