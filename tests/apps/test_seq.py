"""Sequence arithmetic of helpers (spec/60 section 4: the worked examples and the wrap)."""

import pytest

from ipvs_model.apps.seq import FIELDS, IpVsSeq, after

GREW = IpVsSeq(5001, 4, 0)
SHRANK = IpVsSeq(6000, -3, 4)
WRAPS = IpVsSeq(0xFFFFFFF0, 4, 0)
CANCELS = IpVsSeq(200, 0, 3)


@pytest.mark.parametrize(
    ("record", "seq", "fixed"),
    [
        (GREW, 5001, 5001),
        (GREW, 5002, 5006),
        (GREW, 4990, 4990),
        (SHRANK, 5500, 5504),
        (SHRANK, 6000, 6004),
        (SHRANK, 6001, 5998),
        (WRAPS, 0xFFFFFFFF, 0x00000003),
        (WRAPS, 0x10, 0x14),
        (CANCELS, 200, 203),
        (CANCELS, 201, 201),
        (IpVsSeq(), 77, 77),
    ],
)
def test_fix_seq(record: IpVsSeq, seq: int, fixed: int) -> None:
    assert record.fix_seq(seq) == fixed


@pytest.mark.parametrize(
    ("record", "ack", "fixed"),
    [
        (GREW, 5005, 5005),
        (GREW, 5006, 5002),
        (GREW, 5052, 5048),
        (SHRANK, 5997, 5993),
        (SHRANK, 5998, 6001),
        (SHRANK, 6010, 6013),
        (WRAPS, 0xFFFFFFF4, 0xFFFFFFF4),
        (WRAPS, 0xFFFFFFF5, 0xFFFFFFF1),
        (WRAPS, 0x00000003, 0xFFFFFFFF),
        (IpVsSeq(), 77, 77),
    ],
)
def test_fix_ack_seq(record: IpVsSeq, ack: int, fixed: int) -> None:
    assert record.fix_ack_seq(ack) == fixed


def test_updates_of_the_worked_example() -> None:
    record = IpVsSeq()
    record.update(5001, 4)
    assert (record.init_seq, record.delta, record.previous_delta) == (5001, 4, 0)
    record.update(6000, -7)
    assert (record.init_seq, record.delta, record.previous_delta) == (6000, 0xFFFFFFFD, 4)


@pytest.mark.parametrize(
    ("x", "y", "is_after"),
    [(2, 1, True), (1, 2, False), (1, 1, False), (0, 0xFFFFFFFF, True), (0x80000000, 0, True), (0, 0x80000000, True), (0x7FFFFFFF, 0, True), (0, 0x7FFFFFFF, False)],
)
def test_after(x: int, y: int, is_after: bool) -> None:
    assert after(x, y) is is_after


def test_fields_are_the_attributes() -> None:
    assert {name for name, _, _ in FIELDS} == set(IpVsSeq.__slots__)


def test_repr_is_python() -> None:
    assert repr(eval(repr(SHRANK))) == repr(SHRANK)
