"""Sequence numbers of a TCP stream whose payload an application helper has resized (struct ip_vs_seq).

All arithmetic is modulo 2**32. Each connection has two records: ``in_seq`` (client to server) and ``out_seq`` (server to client).
"""

from __future__ import annotations

from typing import Final

U32: Final = 0xFFFFFFFF

#: kernel name, width in bits, what it is (in the order of the struct and of the sync message)
FIELDS: Final = (
    ("init_seq", 32, "sequence number of the segment resized last, as it arrived"),
    ("delta", 32, "what is added to numbers after init_seq"),
    ("previous_delta", 32, "what is added to numbers up to init_seq"),
)


def after(x: int, y: int) -> bool:
    """Whether sequence number x comes after y: (y - x) read as a signed 32-bit number is negative.

    >>> after(0x10, 0xFFFFFFF0), after(5, 5)
    (True, False)
    """
    return (y - x) & 0x80000000 != 0


class IpVsSeq:
    """How one direction of a stream is shifted (struct ip_vs_seq; `FIELDS`).

    >>> seq = IpVsSeq()
    >>> seq.update(5001, 4)
    >>> seq.fix_seq(5001), seq.fix_seq(5002), seq.fix_ack_seq(5006)
    (5001, 5006, 5002)
    """

    __slots__ = ("delta", "init_seq", "previous_delta")

    def __init__(self, init_seq: int = 0, delta: int = 0, previous_delta: int = 0) -> None:
        self.init_seq = init_seq & U32
        self.delta = delta & U32
        self.previous_delta = previous_delta & U32

    def __repr__(self) -> str:
        return f"IpVsSeq(init_seq={self.init_seq}, delta={self.delta}, previous_delta={self.previous_delta})"

    def fix_seq(self, seq: int) -> int:
        """The sequence number as the receiver must see it (source: ip_vs_app.c, vs_fix_seq)."""
        return (seq + (self.delta if after(seq, self.init_seq) else self.previous_delta)) & U32

    def fix_ack_seq(self, ack: int) -> int:
        """The acknowledgement number as the sender must see it (source: ip_vs_app.c, vs_fix_ack_seq)."""
        return (ack - (self.delta if after(ack, (self.init_seq + self.delta) & U32) else self.previous_delta)) & U32

    def update(self, seq: int, diff: int) -> None:
        """Note that the segment numbered `seq` (as it arrived) grew by `diff` bytes (source: ip_vs_app.c, vs_seq_update).

        The caller has checked that the segment is new: see `base.vs_seq_update`.
        """
        self.previous_delta = self.delta
        self.delta = (self.delta + diff) & U32
        self.init_seq = seq & U32
