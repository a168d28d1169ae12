"""Conversations: a client and a real server that talk as real ones do, one packet at a time.

A conversation knows how far it has got, so that the next word is nearly always one that a real peer would say: most of them reach ESTABLISHED and
beyond. Nothing here needs Hypothesis; `strategies.py` draws words, `machine.py` says them.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import define, frozen

from ipvs_model.addresses import format_endpoint
from ipvs_model.packet import Packet

Side: TypeAlias = Literal["client", "server"]

PAYLOAD: Final = b"0123456789"
DEVICE: Final = "eth0"

#: what is said next in each phase, by whom, and the phase that follows
TCP_COURSE: Final[dict[str, tuple[Side, str, str]]] = {
    "new": ("client", "S", "syn"),
    "syn": ("server", "SA", "synack"),
    "synack": ("client", "A", "open"),
    "open": ("client", "PA", "asked"),
    "asked": ("server", "PA", "open"),
    "client fin": ("server", "FA", "server fin too"),
    "server fin too": ("client", "A", "closed"),
    "server fin": ("client", "FA", "client fin too"),
    "client fin too": ("server", "A", "closed"),
    "closed": ("client", "S", "syn"),
}
UDP_COURSE: Final[dict[str, tuple[Side, str, str]]] = {
    "new": ("client", "DATA", "asked"),
    "asked": ("server", "DATA", "open"),
    "open": ("client", "DATA", "asked"),
}
SCTP_COURSE: Final[dict[str, tuple[Side, str, str]]] = {
    "new": ("client", "INIT", "init"),
    "init": ("server", "INIT-ACK", "init answered"),
    "init answered": ("client", "COOKIE-ECHO", "cookie"),
    "cookie": ("server", "COOKIE-ACK", "open"),
    "open": ("client", "DATA", "asked"),
    "asked": ("server", "SACK", "open"),
    "client fin": ("server", "SHUTDOWN-ACK", "server fin too"),
    "server fin too": ("client", "SHUTDOWN-COMPLETE", "closed"),
    "server fin": ("client", "SHUTDOWN-ACK", "client fin too"),
    "client fin too": ("server", "SHUTDOWN-COMPLETE", "closed"),
    "closed": ("client", "INIT", "init"),
}
COURSES: Final = {"tcp": TCP_COURSE, "udp": UDP_COURSE, "sctp": SCTP_COURSE}
#: the word that begins an orderly end, and the one that ends at once; UDP has neither
CLOSING: Final = {"tcp": "FA", "udp": "DATA", "sctp": "SHUTDOWN"}
RESETTING: Final = {"tcp": "R", "udp": "DATA", "sctp": "ABORT"}

#: SCTP chunk types by name, with a value of the right length
CHUNKS: Final[dict[str, tuple[int, bytes]]] = {
    "DATA": (0, bytes(12) + PAYLOAD + bytes(2)),
    "INIT": (1, bytes(16)),
    "INIT-ACK": (2, bytes(16)),
    "SACK": (3, bytes(12)),
    "HEARTBEAT": (4, bytes(4)),
    "HEARTBEAT-ACK": (5, bytes(4)),
    "ABORT": (6, b""),
    "SHUTDOWN": (7, bytes(4)),
    "SHUTDOWN-ACK": (8, b""),
    "ERROR": (9, bytes(4)),
    "COOKIE-ECHO": (10, bytes(8)),
    "COOKIE-ACK": (11, b""),
    "SHUTDOWN-COMPLETE": (14, b""),
}
#: words that anybody may say at any time, the usual ones first
WORDS: Final = {
    "tcp": ("S", "SA", "A", "PA", "FA", "R", "RA", "F", "SF", "", "FPU"),
    "udp": ("DATA",),
    "sctp": tuple(CHUNKS),
}


@frozen
class Say:
    """One packet of a conversation: who sends it, and the word, TCP flags in letters or an SCTP chunk ("DATA" for UDP)."""

    side: Side
    word: str


def say_packet(protocol: str, source: str, target: str, word: str, *, mark: int = 0, device: str | None = DEVICE, bits: int = 0, seq: int = 1000) -> Packet:
    """The packet of a word between two endpoints. Raises KeyError for a protocol or chunk that is not known, ValueError for flags."""
    if protocol == "tcp":
        payload = PAYLOAD if "P" in word else b""
        return Packet.tcp(source, target, word, seq=seq, payload=payload, mark=mark, device=device, bits=bits)
    if protocol == "udp":
        return Packet.udp(source, target, PAYLOAD, mark=mark, device=device, bits=bits)
    kind, value = CHUNKS[word]
    return Packet.sctp(source, target, [(kind, 0, value)], mark=mark, device=device, bits=bits)


@define
class Conversation:
    """A client that talks to a virtual address, and the real server that answers once it is known.

    ``protocol`` "tcp", "udp" or "sctp"; endpoints as people write them. ``server`` is None until a packet was sent to one; ``direct`` says that
    its answers do not pass the director.
    """

    protocol: str
    client: str
    virtual: str
    mark: int = 0
    phase: str = "new"
    server: str | None = None
    direct: bool = False
    asked: Packet | None = None  #: the client's last packet as it reached the server
    answered: Packet | None = None  #: the server's last packet as it reached the client

    def next(self) -> Say:
        """What a real peer would say now: the next word of the course, or the client's opening again while nobody has answered."""
        course = COURSES[self.protocol]
        side, word, _ = course[self.phase]
        if side == "server" and self.server is None:
            side, word, _ = course["new"]
        return Say(side, word)

    def closing(self, side: Side) -> Say:
        """The word with which a side begins to close."""
        return Say(side, CLOSING[self.protocol])

    def resetting(self, side: Side) -> Say:
        """The word with which a side ends everything at once."""
        return Say(side, RESETTING[self.protocol])

    def can(self, side: Side) -> bool:
        """Whether a side has something to send through the director: a server only when it is known and its answers come this way."""
        return side == "client" or (self.server is not None and not self.direct)

    def packet(self, say: Say, *, bits: int = 0) -> Packet:
        """The packet of a word. Raises ValueError for a server that is not known."""
        if say.side == "client":
            return say_packet(self.protocol, self.client, self.virtual, say.word, mark=self.mark, bits=bits)
        if self.server is None:
            raise ValueError("no server has been asked yet")
        return say_packet(self.protocol, self.server, self.client, say.word, bits=bits)

    def said(self, say: Say) -> None:
        """Go on to the phase that follows a word; words out of turn lead to the phase that a peer would be in."""
        side, word, after = COURSES[self.protocol][self.phase]
        if (say.side, say.word) == (side, word):
            self.phase = after
        elif self.protocol == "udp":
            self.phase = "asked" if say.side == "client" else "open"
        elif say.word == CLOSING[self.protocol]:
            self.phase = f"{say.side} fin"
        elif say.word == RESETTING[self.protocol]:
            self.phase = "closed"
        elif say == Say("client", COURSES[self.protocol]["new"][1]):
            self.phase = COURSES[self.protocol]["new"][2]

    def forwarded(self, packet: Packet) -> None:
        """The client's packet left for a server as this one: its target is the server if it was translated, else answers go another way."""
        asked = self.packet(Say("client", COURSES[self.protocol]["new"][1]))
        self.asked = packet
        self.direct = packet.proto != asked.proto or packet.dst == asked.dst
        self.server = self.virtual if self.direct else format_endpoint(packet.af, packet.dst)
