"""What a hook function decides: a verdict, why, and how the packet changes.

Actions are immutable and shared: all packets of a real server in one direction get the same object; ``apply`` makes the packet that leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.flags import PKT_PARTIAL, PKT_PROPERTY, Verdict
from ipvs_model.packet import Packet
from ipvs_model.packet.encap import encapsulate
from ipvs_model.packet.rewrite import dec_ttl, dnat, snat, translated

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.routing import Route

#: every value of ``Action.reason``, in words
REASONS = {
    "property": "IPVS has handled the packet already",
    "not to host": "its link type is broadcast, multicast or promiscuous",
    "no hooks": "no service of its family: IPVS does not see it",
    "backup only": "this node is a backup and backup_only is set",
    "nodefrag": "sent by a socket with IP_NODEFRAG",
    "protocol": "IPVS does not handle its protocol",
    "not icmp error": "an ICMP message that is no error",
    "icmp unrelated": "an ICMP error about a packet of no connection",
    "no connection": "a packet of no connection",
    "no service": "no service for its destination",
    "not a starter": "a packet that may not begin a connection",
    "ftp data": "client port 20: never scheduled",
    "local reply": "a reply of a local server to a known connection",
    "other port": "the service has another port",
    "short header": "its transport header is cut off",
    "drop_packet": "dropped by the drop_packet defence",
    "no destination": "the scheduler found no destination: refused",
    "no destination icmp": "an ICMP error with no destination to be scheduled to",
    "engine refused": "the persistence engine cannot use it",
    "dest unavailable": "its destination is deleted and expire_nodest_conn is 0",
    "old conntrack": "conntrack holds a confirmed entry: the packet is dropped, the next one is scheduled anew",
    "no transmitter": "its destination's method has no transmitter",
    "forwarded": "sent to its real server",
    "local": "its real server is this host",
    "bypass": "sent to its own destination (cache bypass)",
    "translated": "a reply, translated",
    "reply": "a reply of a connection that is not translated",
    "icmp forwarded": "an ICMP error, sent to the real server of its connection",
    "icmp translated": "an ICMP error from the server's side, translated",
    "tunnel error": "an error about a tunnel packet: the client was told",
    "checksum": "its checksum is wrong",
    "app refused": "the application helper cannot handle it",
    "rewrite refused": "its header is too short to be rewritten",
    "no route": "no route to the real server",
    "boundary": "it would cross the border between local and remote",
    "loopback server": "a loopback real server for a remote client",
    "synced local": "a synced connection with a local real server",
    "ttl": "its time to live is over",
    "mtu": "too big for the way to the real server",
    "tunnel mtu": "the way to the real server is too narrow for a tunnel",
    "fragment": "a fragment, kept until its datagram is whole",
    "rs unreachable": "a reply of a real server that belongs to no connection: refused",
}


class Action:
    """A decision: ``verdict``, ``reason`` (a key of ``REASONS``), the way out (``device``, ``next_hop``; "" and 0 where nothing is sent)."""

    __slots__ = ("device", "next_hop", "reason", "verdict")

    def __init__(self, verdict: Verdict, reason: str, route: Route | None = None) -> None:
        self.verdict = verdict
        self.reason = reason
        self.device = route.device if route is not None else ""
        self.next_hop = route.next_hop if route is not None else 0

    def apply(self, packet: Packet) -> Packet | None:
        """The packet as it leaves (STOLEN) or goes on (ACCEPT); None when it ends here."""
        return packet if self.verdict is Verdict.ACCEPT else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.verdict.name} {self.reason!r}>"


class Accepted(Action):
    """The packet goes on as it is."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.ACCEPT, reason)


class Dropped(Action):
    """Netfilter drops the packet."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.DROP, reason)


class Stolen(Action):
    """IPVS has freed (or kept) the packet."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.STOLEN, reason)


class Prepared(Action):
    """A decision about one packet only, with the packet that results."""

    __slots__ = ("packet",)

    def __init__(self, verdict: Verdict, reason: str, packet: Packet, route: Route | None = None) -> None:
        super().__init__(verdict, reason, route)
        self.packet = packet
        packet.bits |= PKT_PROPERTY

    def apply(self, packet: Packet) -> Packet | None:
        """The packet made for this one."""
        return self.packet


def _marked(packet: Packet | None) -> Packet:
    assert packet is not None
    packet.bits |= PKT_PROPERTY
    return packet


class Marked(Action):
    """Accepted as it is, and marked as handled (LOCALNODE, direct routing to a local server, replies that are not translated)."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.ACCEPT, reason)

    def apply(self, packet: Packet) -> Packet | None:
        """The same packet, marked."""
        return _marked(packet)


class NatIn(Action):
    """Destination rewritten to ``real``; sent with one hop less, or accepted when the server is this host."""

    __slots__ = ("hop", "real")

    def __init__(self, real: int, route: Route) -> None:
        local = route.local
        super().__init__(Verdict.ACCEPT if local else Verdict.STOLEN, "local" if local else "forwarded", None if local else route)
        self.real = real
        self.hop = 0 if local else 1  #: what is taken from the TTL

    def apply(self, packet: Packet) -> Packet | None:
        """The translated packet."""
        bits = packet.bits
        if packet.lane and not bits & PKT_PARTIAL:
            return translated(packet, packet.src, self.real, packet.ttl - self.hop, bits | PKT_PROPERTY)
        return _marked(dnat(packet, self.real, dec_ttl=self.hop == 1))


class NatOut(Action):
    """Source rewritten to ``virt``."""

    __slots__ = ("virt",)

    def __init__(self, virt: int) -> None:
        super().__init__(Verdict.ACCEPT, "translated")
        self.virt = virt

    def apply(self, packet: Packet) -> Packet | None:
        """The translated packet."""
        bits = packet.bits
        if packet.lane and not bits & PKT_PARTIAL:
            return translated(packet, self.virt, packet.dst, packet.ttl, bits | PKT_PROPERTY)
        return _marked(snat(packet, self.virt))


class Direct(Action):
    """Sent as it is with one hop less: direct routing, or cache bypass."""

    __slots__ = ()

    def __init__(self, reason: str, route: Route) -> None:
        super().__init__(Verdict.STOLEN, reason, route)

    def apply(self, packet: Packet) -> Packet | None:
        """The same packet with TTL - 1."""
        return _marked(dec_ttl(packet))


class Tunnelled(Action):
    """Sent inside a packet to the real server."""

    __slots__ = ("dest", "pmtu_disc", "real", "saddr")

    def __init__(self, dest: Dest, real: int, route: Route, saddr: int, pmtu_disc: bool) -> None:
        super().__init__(Verdict.STOLEN, "forwarded", route)
        self.dest = dest
        self.real = real
        self.saddr = saddr
        self.pmtu_disc = pmtu_disc

    def apply(self, packet: Packet) -> Packet | None:
        """The outer packet; the inner one has TTL - 1."""
        dest = self.dest
        outer = encapsulate(
            dec_ttl(packet),
            dest.af,
            self.saddr,
            self.real >> 16,
            tun_type=dest.tun_type,
            tun_port=dest.tun_port,
            tun_flags=dest.tun_flags,
            pmtu_disc=self.pmtu_disc,
        )
        return _marked(outer)
