"""Sequence numbers of a TCP stream whose payload an application helper has resized.

The records (struct ip_vs_seq, `Seq`) hang on the connection: ``in_seq`` for client to server, ``out_seq`` for server to client.
All arithmetic is modulo 2**32.

source: ip_vs_app.c
"""

from __future__ import annotations

from typing import Final

from ipvs_model.conn import Seq

U32: Final = 0xFFFFFFFF


def after(x: int, y: int) -> bool:
    """Whether sequence number x comes after y: (y - x) read as a signed 32-bit number is negative.

    >>> after(0x10, 0xFFFFFFF0), after(5, 5)
    (True, False)
    """
    return (y - x) & 0x80000000 != 0


def vs_fix_seq(record: Seq, seq: int) -> int:
    """A sequence number as the receiver must see it.

    >>> vs_fix_seq(Seq(5001, 4, 0), 5001), vs_fix_seq(Seq(5001, 4, 0), 5002)
    (5001, 5006)
    """
    return (seq + (record.delta if after(seq, record.init_seq) else record.previous_delta)) & U32


def vs_fix_ack_seq(record: Seq, ack: int) -> int:
    """An acknowledgement number as the sender must see it.

    >>> vs_fix_ack_seq(Seq(5001, 4, 0), 5005), vs_fix_ack_seq(Seq(5001, 4, 0), 5006)
    (5005, 5002)
    """
    return (ack - (record.delta if after(ack, (record.init_seq + record.delta) & U32) else record.previous_delta)) & U32


def vs_seq_update(record: Seq, seq: int, diff: int) -> Seq:
    """The record after the segment numbered `seq` (as it arrived) grew by `diff` bytes; negative: it shrank.

    The caller has seen that the segment is no retransmission (`base.app_tcp`).
    """
    return Seq(init_seq=seq, delta=(record.delta + diff) & U32, previous_delta=record.delta)
