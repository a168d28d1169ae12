"""Sequence arithmetic of helpers (spec/60 section 4: the worked examples and the wrap)."""

import pytest

from ipvs_model.apps.seq import after, vs_fix_ack_seq, vs_fix_seq, vs_seq_update
from ipvs_model.conn import Seq

GREW = Seq(5001, 4, 0)
SHRANK = Seq(6000, 0xFFFFFFFD, 4)
WRAPS = Seq(0xFFFFFFF0, 4, 0)
CANCELS = Seq(200, 0, 3)


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
        (Seq(), 77, 77),
    ],
)
def test_fix_seq(record: Seq, seq: int, fixed: int) -> None:
    assert vs_fix_seq(record, seq) == fixed


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
        (Seq(), 77, 77),
    ],
)
def test_fix_ack_seq(record: Seq, ack: int, fixed: int) -> None:
    assert vs_fix_ack_seq(record, ack) == fixed


def test_updates_of_the_worked_example() -> None:
    assert vs_seq_update(Seq(), 5001, 4) == GREW
    assert vs_seq_update(GREW, 6000, -7) == SHRANK


@pytest.mark.parametrize(
    ("x", "y", "is_after"),
    [(2, 1, True), (1, 2, False), (1, 1, False), (0, 0xFFFFFFFF, True), (0x80000000, 0, True), (0, 0x80000000, True), (0x7FFFFFFF, 0, True), (0, 0x7FFFFFFF, False)],
)
def test_after(x: int, y: int, is_after: bool) -> None:
    assert after(x, y) is is_after
