"""How connection tracking follows TCP: a state for the whole connection, and for each side the window within which its segments must lie.

The windows are those of G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter": a segment must not go beyond what the receiver has allowed, must not lie wholly
before what the receiver has had its window for, and must not acknowledge what was not seen.

source: net/netfilter/nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet, tcp_in_window, tcp_new
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipvs_model.packet import Packet

#: states in the order of the tables, and the seconds after which an entry in that state is forgotten
TIMEOUTS: Final = {"NO": 0, "SS": 120, "SR": 60, "ES": 432000, "FW": 120, "CW": 60, "LA": 30, "TW": 120, "CL": 10, "S2": 120}
STATES: Final = tuple(TIMEOUTS)
UNACKNOWLEDGED_S: Final = 300  #: at most, while data is unacknowledged, or no answer was ever seen

# IG: the packet keeps its entry, nothing else happens. IV: invalid.
#                  NO SS SR ES FW CW LA TW CL S2
ORIGINAL: Final = {
    "syn":    "SS SS IG IG IG IG IG SS SS S2",
    "synack": "IV IV SR IV IV IV IV IV IV SR",
    "fin":    "IV IV FW FW LA LA LA TW CL IV",
    "ack":    "ES IV ES ES CW CW TW TW CL IV",
    "rst":    "IV CL CL CL CL CL CL CL CL CL",
    "none":   "IV IV IV IV IV IV IV IV IV IV",
}  # fmt: skip
REPLY: Final = {
    "syn":    "IV S2 IV IV IV IV IV SS IV S2",
    "synack": "IV SR IG IG IG IG IG IG IG SR",
    "fin":    "IV IV FW FW LA LA LA TW CL IV",
    "ack":    "IV IG SR ES CW CW TW TW CL IG",
    "rst":    "IV CL CL CL CL CL CL CL CL CL",
    "none":   "IV IV IV IV IV IV IV IV IV IV",
}  # fmt: skip
TABLES: Final = tuple({index: dict(zip(STATES, row.split(), strict=True)) for index, row in table.items()} for table in (ORIGINAL, REPLY))

U32: Final = 0xFFFFFFFF
MAXACKWINDOW: Final = 66000
TCPOPT_WSCALE: Final = 3
MAX_SCALE: Final = 14


def after(a: int, b: int) -> bool:
    """Whether a sequence number lies behind another one, modulo 2**32."""
    return 0 < (a - b) & U32 < 1 << 31


class Verdict(Enum):
    """What following a packet comes to."""

    VALID = "valid"  #: the packet has this entry
    INVALID = "invalid"  #: the packet has none
    ANEW = "anew"  #: the entry is over, the packet begins another one
    OVER = "over"  #: the entry ends with this packet


class Side:
    """What was seen of one direction: the end of its data, how far it may go, the largest window it offered, the last acknowledgement."""

    __slots__ = ("closed_first", "end", "maxack", "maxend", "maxwin", "scale", "unacknowledged")

    def __init__(self) -> None:
        self.end = 0
        self.maxend = 0
        self.maxwin = 0  #: 0: nothing was seen yet
        self.scale: int | None = None
        self.maxack: int | None = None
        self.closed_first = False
        self.unacknowledged = False

    def begin(self, segment: Segment) -> None:
        """Its first SYN."""
        self.end = self.maxend = segment.end
        self.maxwin = segment.window or 1
        self.scale = segment.scale


class Segment:
    """What is read of a TCP header."""

    __slots__ = ("ack", "begin", "end", "flags", "index", "scale", "window")

    def __init__(self, packet: Packet) -> None:
        raw, l4 = packet.raw, packet.l4
        self.flags = flags = raw[l4 + 13]
        self.begin = packet.seq
        header = raw[l4 + 12] >> 4 << 2
        self.end = (packet.seq + len(raw) - l4 - header + bool(flags & 2) + bool(flags & 1)) & U32
        self.ack = packet.ack
        self.window = raw[l4 + 14] << 8 | raw[l4 + 15]
        self.scale = window_scale(raw[l4 + 20 : l4 + header])
        self.index = "rst" if flags & 4 else ("synack" if flags & 16 else "syn") if flags & 2 else "fin" if flags & 1 else "ack" if flags & 16 else "none"


def window_scale(options: bytes) -> int | None:
    """The window scale that a SYN offers; None if it offers none.

    >>> window_scale(bytes.fromhex("0204 05b4 0103 0307"))
    7
    """
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= len(options) or options[at + 1] < 2:
            break
        if options[at] == TCPOPT_WSCALE and options[at + 1] == 3 and at + 2 < len(options):
            return min(options[at + 2], MAX_SCALE)
        at += options[at + 1]
    return None


class TcpFlow:
    """One TCP connection as it was seen; direction 0 is that of its first packet."""

    __slots__ = ("answered", "last", "liberal", "sides", "state")

    def __init__(self) -> None:
        self.state = "NO"
        self.sides = (Side(), Side())
        self.last: tuple[str, int, int] = ("none", 0, 0)  #: index, direction and end of the last packet that counted
        self.answered = False
        self.liberal = False  #: picked up in the middle: windows are not judged

    def timeout(self) -> int:
        """Seconds until the entry is forgotten."""
        seconds = TIMEOUTS[self.state]
        if any(side.unacknowledged for side in self.sides) or (self.state == "ES" and not self.answered):
            return min(seconds, UNACKNOWLEDGED_S)
        return seconds

    def follow(self, packet: Packet, direction: int) -> Verdict:
        """Judge a packet and, if it counts, move on; a reply is an answer once it was judged: one that is a reset leaves nothing."""
        segment = Segment(packet)
        judged = self._first(segment) if self.state == "NO" else self._next(segment, direction)
        self.answered |= direction == 1 and judged is Verdict.VALID
        return judged

    def _next(self, segment: Segment, direction: int) -> Verdict:
        new = TABLES[direction][segment.index][self.state]
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        if new == "IV":
            return Verdict.INVALID
        if new == "IG":
            self.last = (segment.index, direction, segment.end)
            return Verdict.VALID
        if new == "SS" and self.state in ("TW", "CL"):
            if sender.closed_first or receiver.closed_first or self.last[:2] == ("rst", direction):
                return Verdict.ANEW
            self.last = (segment.index, direction, segment.end)
            return Verdict.VALID
        if segment.index == "rst":
            judged = self._reset(segment, direction)
            if judged is None:
                return Verdict.INVALID
            new = judged
        inside = self._in_window(segment, sender, receiver, direction)
        if inside is not None and not self.liberal:
            return inside
        self.last = (segment.index, direction, segment.end)
        if new == "FW" != self.state:
            sender.closed_first = True
        self.state = new
        return Verdict.OVER if segment.index == "rst" and not self.answered else Verdict.VALID

    def _first(self, segment: Segment) -> Verdict:
        """A SYN, or a packet from the middle of a connection that is picked up (source: tcp_new)."""
        new = TABLES[0][segment.index]["NO"]
        if new == "IV":
            return Verdict.INVALID
        side = self.sides[0]
        side.begin(segment)
        if new == "ES":
            side.maxend = (side.end + side.maxwin) & U32
            self.liberal = True
        self.state = new
        self.last = (segment.index, 0, segment.end)
        return Verdict.VALID

    def _reset(self, segment: Segment, direction: int) -> str | None:
        """The state after a reset: it must not be older than what the other side acknowledged, and hit that exactly to end an established connection."""
        maxack = self.sides[1 - direction].maxack
        established = self.state == "ES"
        if maxack is None or (segment.begin == 0 and not established):
            return "CL"
        if after(maxack, segment.begin):
            return None
        if not established or segment.begin == maxack or self.last == ("ack", direction, segment.begin):
            return "CL"
        return self.state

    def _in_window(self, segment: Segment, sender: Side, receiver: Side, direction: int) -> Verdict | None:
        """None if the segment fits and was counted; VALID: to be let alone; INVALID."""
        begin, end, ack, flags = segment.begin, segment.end, segment.ack, segment.flags
        syn = flags & 2
        window = segment.window << (0 if syn else (sender.scale or 0) if receiver.scale is not None else 0)
        if not sender.maxwin:
            if syn:
                sender.begin(segment)
                if not flags & 16:
                    return None
            else:
                sender.end = end
                sender.maxwin = window or 1
                sender.maxend = (end + sender.maxwin) & U32
                if not receiver.maxwin:
                    receiver.end = receiver.maxend = ack
                elif ack == (receiver.end + 1) & U32:
                    receiver.end = ack
        elif syn and after(end, sender.end) and self.state in ("SS", "SR"):
            sender.begin(segment)
            if direction == 1 and not flags & 16:
                return None
        if not flags & 16 or (flags & 4 and ack == 0):
            ack = receiver.end
        if flags & 4 and begin == 0 and self.state == "SS":
            begin = end = sender.end
        judged = self._judge(begin, end, ack, sender, receiver)
        if judged is not None and not self.liberal:
            return judged
        sender.maxwin = max(sender.maxwin, window)
        if after(end, sender.end):
            sender.end = end
            sender.unacknowledged = True
        if flags & 16 and (sender.maxack is None or after(ack, sender.maxack)):
            sender.maxack = ack
        if receiver.maxwin and after(end, sender.maxend):
            receiver.maxwin += (end - sender.maxend) & U32
        if after((ack + window) & U32, (receiver.maxend - 1) & U32):
            receiver.maxend = (ack + (window or 1)) & U32
        if ack == receiver.end:
            receiver.unacknowledged = False
        return None

    @staticmethod
    def _judge(begin: int, end: int, ack: int, sender: Side, receiver: Side) -> Verdict | None:
        recent = not receiver.maxwin or after(end, (sender.end - receiver.maxwin - 1) & U32)
        ack_recent = after(ack, (receiver.end - max(sender.maxwin, MAXACKWINDOW) - 1) & U32)
        ack_seen = not after(ack, receiver.end)
        if after(begin, sender.maxend):
            overshot = (end - sender.maxend + 1) & U32
            tolerable = receiver.maxwin and recent and ack_recent and ack_seen and overshot <= receiver.maxwin
            return Verdict.VALID if tolerable else Verdict.INVALID
        if not ack_seen:
            return Verdict.INVALID
        return None if recent and ack_recent else Verdict.VALID
