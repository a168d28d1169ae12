"""Sequence adjustment by netfilter's connection tracking, which does for the FTP helper what `seq` does for other helpers.

The helper replaces text in a reply; conntrack then shifts the numbers of all later packets of the connection as they leave the host.
It is a second mechanism beside struct ip_vs_seq: offsets are signed, it looks at the ACK flag, it shifts SACK blocks, and it mends the TCP checksum.
source: net/netfilter/nf_conntrack_seqadj.c
"""

from __future__ import annotations

from typing import Final

from ipvs_model.apps.seq import U32, after
from ipvs_model.fields import Field
from ipvs_model.packet.checksum import update_csum

FIELDS: Final = (
    Field("correction_pos", "correction_pos", "u32", "slot", "number of the segment resized last"),
    Field("offset_before", "offset_before", "s32", "slot", "shift of numbers up to correction_pos"),
    Field("offset_after", "offset_after", "s32", "slot", "shift of numbers after correction_pos"),
)

TCPOPT_EOL: Final = 0
TCPOPT_NOP: Final = 1
TCPOPT_SACK: Final = 5
_ACK: Final = 0x10
_CHECK: Final = 16  # offset of the checksum in the TCP header


class CtSeqAdj:
    """One direction's offsets (struct nf_ct_seqadj; `FIELDS`)."""

    __slots__ = ("correction_pos", "offset_after", "offset_before")

    def __init__(self) -> None:
        self.correction_pos = 0
        self.offset_before = 0
        self.offset_after = 0

    def __repr__(self) -> str:
        return f"<CtSeqAdj pos={self.correction_pos} before={self.offset_before} after={self.offset_after}>"

    def set(self, seq: int, diff: int) -> None:
        """Note that the segment numbered `seq` changed its length by `diff` bytes (source: nf_ct_seqadj_set)."""
        if self.offset_before == self.offset_after or after(seq, self.correction_pos):
            self.correction_pos = seq
            self.offset_before = self.offset_after
            self.offset_after += diff

    def seq(self, seq: int) -> int:
        """A sequence number of this direction as the receiver must see it."""
        return (seq + (self.offset_after if after(seq, self.correction_pos) else self.offset_before)) & U32

    def ack(self, ack: int) -> int:
        """A number that acknowledges this direction, as the sender must see it."""
        return (ack - (self.offset_after if after((ack - self.offset_before) & U32, self.correction_pos) else self.offset_before)) & U32


class ConntrackSeqAdj:
    """The offsets of both directions of one connection (struct nf_conn_seqadj). Nothing is shifted until the first `set`.

    >>> adj = ConntrackSeqAdj()
    >>> adj.set(5001, 4, reply=True)
    >>> adj.reply.seq(5049), adj.reply.ack(5053)
    (5053, 5049)
    """

    __slots__ = ("active", "original", "reply")

    def __init__(self) -> None:
        self.original = CtSeqAdj()  #: client to server
        self.reply = CtSeqAdj()  #: server to client
        self.active = False  #: some adjustment was set (IPS_SEQ_ADJUST)

    def set(self, seq: int, diff: int, *, reply: bool) -> None:
        """Note that a segment of one direction changed its length; `diff` 0 changes nothing."""
        if diff:
            self.active = True
            (self.reply if reply else self.original).set(seq, diff)

    def adjust(self, segment: bytes, *, reply: bool, partial: bool = False) -> bytes | None:
        """The TCP segment (from its header on) as it leaves; None if its options cannot be read, then it is dropped.

        Numbers, SACK blocks and the checksum are changed; a wrong checksum stays wrong by the same difference.
        `partial`: the checksum is completed on output and is left alone.
        source: nf_conntrack_seqadj.c, nf_ct_seq_adjust
        """
        if not self.active or len(segment) < 20:
            return segment
        this, other = (self.reply, self.original) if reply else (self.original, self.reply)
        out = _Segment(segment, partial)
        out.put(4, this.seq(out.get(4)))
        if segment[13] & _ACK:
            out.put(8, other.ack(out.get(8)))
            blocks = sack_numbers(segment)
            if blocks is None:
                return None
            for at in blocks:
                out.put(at, other.ack(out.get(at)))
        return bytes(out.data)


class _Segment:
    """A segment whose 32-bit numbers are replaced one by one, each with its checksum update."""

    __slots__ = ("data", "partial")

    def __init__(self, segment: bytes, partial: bool) -> None:
        self.data = bytearray(segment)
        self.partial = partial

    def get(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 4], "big")

    def put(self, at: int, value: int) -> None:
        # as the kernel: no regard to whether the number stands at an odd offset (inet_proto_csum_replace4)
        if not self.partial:
            check = update_csum(int.from_bytes(self.data[_CHECK : _CHECK + 2], "big"), self.get(at), value)
            self.data[_CHECK : _CHECK + 2] = check.to_bytes(2, "big")
        self.data[at : at + 4] = value.to_bytes(4, "big")


def sack_numbers(segment: bytes) -> list[int] | None:
    """Offsets of the numbers in a segment's SACK blocks; None if an option runs over the end of the header (source: nf_ct_sack_adjust)."""
    numbers: list[int] = []
    pos, end = 20, (segment[12] >> 4) * 4
    if end > len(segment):
        return None
    while pos < end:
        kind = segment[pos]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            pos += 1
            continue
        if pos + 1 == end or segment[pos + 1] < 2 or pos + segment[pos + 1] > end:
            return None
        length = segment[pos + 1]
        if kind == TCPOPT_SACK and length >= 10 and (length - 2) % 8 == 0:
            numbers += range(pos + 2, pos + length, 4)
        pos += length
    return numbers
