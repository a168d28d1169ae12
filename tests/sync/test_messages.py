"""The wire formats, both ways."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from tests.sync.examples import EXAMPLES, TCP_CONN, flat
from tests.sync.strategies import messages

from ipvs_model.sync.messages import (
    RESULTS,
    Decoded,
    DecodedMessage,
    SyncMessage,
    SyncRecord,
    SyncSeq,
    decode_message,
    encode_message,
    encode_record_v1,
    message_version,
    validate,
)

GOOD = encode_record_v1(TCP_CONN)


def wrap(*records: bytes, nr_conns: int | None = None, syncid: int = 7) -> bytes:
    """A version 1 message around raw records, each padded."""
    body = b"".join(record + bytes(-len(record) % 4) for record in records)
    return bytes((0, syncid)) + (8 + len(body)).to_bytes(2, "big") + bytes((len(records) if nr_conns is None else nr_conns, 1, 0, 0)) + body


def with_options(options: bytes) -> bytes:
    """The good record with raw options behind it."""
    return GOOD[:2] + (36 + len(options)).to_bytes(2, "big") + GOOD[4:] + options


def codes(payload: bytes) -> list[int]:
    return [entry.code for entry in decode_message(payload).entries]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_encoded_byte_for_byte(name: str) -> None:
    hexa, message = EXAMPLES[name]
    assert encode_message(message).hex() == flat(hexa).hex()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_decoded_to_its_records(name: str) -> None:
    hexa, message = EXAMPLES[name]
    decoded = decode_message(flat(hexa))
    assert (decoded.version, decoded.syncid, decoded.records, decoded.error) == (message.version, message.syncid, message.records, None)


@given(messages)
def test_decoding_undoes_encoding(message: SyncMessage) -> None:
    decoded = decode_message(encode_message(message))
    assert decoded.records == message.records
    assert (decoded.version, decoded.syncid, decoded.error) == (message.version, message.syncid, None)


@given(messages)
def test_repr_is_the_message(message: SyncMessage) -> None:
    assert eval(repr(message), {"SyncMessage": SyncMessage, "SyncRecord": SyncRecord, "SyncSeq": SyncSeq}) == message


@given(messages, st.data())
def test_a_damaged_message_is_decoded_without_an_exception(message: SyncMessage, data: st.DataObject) -> None:
    payload = bytearray(encode_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    decoded = decode_message(bytes(payload))
    assert {entry.code for entry in decoded.entries} <= set(RESULTS)
    assert all(entry.code >= 0 for entry in decoded.entries[:-1])


@given(st.binary(max_size=120))
def test_any_bytes_are_decoded_without_an_exception(payload: bytes) -> None:
    decode_message(payload)


@pytest.mark.parametrize(
    ("payload", "error"),
    [(b"", "short"), (b"\1\7\0", "short"), (flat("00 07 0009 00 01 0000"), "size"), (flat("00 07 0007 00 01 0000"), "size")],
)
def test_message_that_is_ignored(payload: bytes, error: str) -> None:
    assert decode_message(payload).error == error


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ("00 07 0008 00 01 0000", 1),
        ("01 07 0008 00 01 0000", 0),  # reserved byte set
        ("00 07 0008 00 02 0000", 0),
        ("00 07 0008 00 ff 0000", 0),
        ("00 07 0008 00 01 0001", 0),  # spare set: version 0 with no records
        ("00 07 0006 00 01", 1),  # missing bytes count as 0
        ("00 07 0004", 0),
    ],
)
def test_version_is_told_from_the_header(header: str, version: int) -> None:
    assert message_version(flat(header)) == version


def test_spare_bytes_make_a_version_0_message_without_records() -> None:
    payload = bytearray(wrap(GOOD))
    payload[7] = 1
    assert decode_message(bytes(payload)) == DecodedMessage(0, 7)


SEQ = b"\1\30" + bytes(24)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (GOOD, 0),
        (GOOD[:32], -1),
        (GOOD[:2] + b"\0\50" + GOOD[4:], -2),  # 40 bytes announced, 36 there
        (GOOD[:2] + b"\x10\x24" + GOOD[4:], -3),
        (b"\2" + GOOD[1:], -10),
        (b"\3" + GOOD[1:], -20),  # bit 0 says IPv6, whatever the others say
        (GOOD[:2] + b"\0\24" + GOOD[4:], -20),  # 20 bytes announced
        (GOOD[:2] + b"\0\0" + GOOD[4:], -20),
        (with_options(b"\1"), -30),
        (with_options(b"\1\0"), -40),
        (with_options(b"\2\3ab"), -40),
        (with_options(b"\1\27" + bytes(23)), -50),
        (with_options(b"\1\31" + bytes(25)), -50),
        (with_options(SEQ + SEQ), -50),
        (with_options(SEQ + b"\x41\30" + bytes(24)), -50),  # bit 0x40 does not make it another option
        (with_options(b"\2\1a\2\1b"), -60),
        (with_options(b"\3\1a\3\1b"), -70),
        (with_options(b"\3\21" + b"n" * 17), -70),
        (with_options(b"\5\1x"), 20),
        (with_options(b"\5\1x\1"), 20),  # what follows is not looked at
        (with_options(b"\0\1x"), 20),
        (with_options(b"\x85\1x"), 20),
        (with_options(b"\x45\1x"), 0),
        (with_options(b"\3\3sip\2\2id" + SEQ), 0),  # any order
    ],
)
def test_record_gets_its_result(record: bytes, code: int) -> None:
    assert codes(wrap(record)) == [code]


def test_a_negative_result_loses_the_rest_of_the_message() -> None:
    assert codes(wrap(GOOD, b"\2" + GOOD[1:], GOOD)) == [0, -10]


def test_a_positive_result_loses_only_its_record() -> None:
    assert codes(wrap(GOOD, with_options(b"\5\1x"), GOOD)) == [0, 20, 0]


def test_more_records_announced_than_present() -> None:
    assert codes(wrap(GOOD, nr_conns=3)) == [0, -1]


def test_bytes_behind_the_last_record_are_ignored() -> None:
    assert codes(wrap(GOOD, GOOD, nr_conns=1)) == [0]


def test_v0_record_of_half_a_length_is_not_applied() -> None:
    whole = flat(EXAMPLES["v0 sequence data"][0])
    cut = whole[:-1]
    assert decode_message(cut[:2] + len(cut).to_bytes(2, "big") + cut[4:]).entries == (Decoded(4, -2),)
    short = whole[:27]
    assert decode_message(short[:2] + len(short).to_bytes(2, "big") + short[4:]).entries == (Decoded(4, -1),)


def test_count_of_records_wraps_at_256() -> None:
    assert encode_message(SyncMessage(1, 7, (TCP_CONN,) * 257))[4] == 1


CASES = [
    ({"flags": 0x1800}, 25),
    ({"flags": 0x2000}, 25),
    ({"flags": 0x0800}, 0),
    ({"protocol": 1}, 30),
    ({"protocol": 0}, 30),
    ({"protocol": 1, "flags": 0x1000}, 0),  # a template may be of any protocol
    ({"protocol": 0, "flags": 0x1000, "state": 1}, 0),
    ({"flags": 0x1000, "state": 2}, 40),
    ({"state": 10}, 0),
    ({"state": 11}, 40),
    ({"protocol": 17, "state": 0}, 0),
    ({"protocol": 17, "state": 1}, 40),
    ({"protocol": 132, "state": 13}, 0),
    ({"protocol": 132, "state": 14}, 40),
    ({"protocol": 51, "state": 1}, 40),
    ({"protocol": 50, "state": 0}, 0),
    ({"pe_data": b"x"}, 50),
    ({"pe_data": b"x", "pe_name": b"other"}, 50),
    ({"pe_data": b"x", "pe_name": b"sip"}, 0),
    ({"pe_data": b"x", "pe_name": b"sip\0zzz"}, 0),
    ({"pe_name": b"other"}, 0),  # a name without data is ignored
    ({"state": 11, "pe_data": b"x"}, 40),  # checked in the kernel's order
    ({"flags": 0x2000, "protocol": 1, "state": 99}, 25),
    ({"protocol": 1, "state": 99}, 30),
]


@pytest.mark.parametrize(("change", "code"), CASES)
def test_record_is_judged(change: dict[str, object], code: int) -> None:
    assert validate(evolve(TCP_CONN, **change), lambda name: name == "sip") == code
