"""What leaves a host: a packet on a device, and who made it."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Origin(Enum):
    """Who made a packet that leaves a host; decides which of its fields nobody can foretell."""

    FORWARDED = "forwarded"  #: it came in, and goes on, translated or not
    IPVS = "sent by IPVS"  #: a client's packet that a transmitter sent to a real server
    TUNNEL = "tunnel"  #: the same behind a new header of the director
    ICMP = "icmp"  #: an ICMP message of this host
    RESET = "reset"  #: a TCP reset of this host
    SYNC = "sync"  #: a datagram of the sync daemon

    def __str__(self) -> str:
        return self.value


@frozen
class Emission:
    """A packet that left the host."""

    device: str
    raw: bytes
    origin: Origin

    def __str__(self) -> str:
        return f"{self.device}: {self.raw.hex()} ({self.origin})"
